// Shared by all servers: their options, the candles of Redis as envelopes, and the requests of clients.

import { parseArgs } from "node:util";
import { Redis } from "ioredis";

export const ENDPOINT = "/public/v1/stream";
export const INVALID_KEY = 4001;

export function readOptions() {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "0" },
      "redis-url": { type: "string" },
      exchange: { type: "string" },
      compression: { type: "boolean", default: false },
    },
  });
  const key = process.env.TORNADO_BRIDGE_API_KEY;
  if (!values["redis-url"] || !values.exchange || !key) {
    console.error("usage: --redis-url URL --exchange ID:NAME, and TORNADO_BRIDGE_API_KEY in the environment");
    process.exit(2);
  }
  return {
    port: Number(values.port),
    redisUrl: values["redis-url"],
    exchangeId: values.exchange.split(":")[0],
    compression: values.compression,
    key,
  };
}

// Calls onCandle(channel, candle) for each candle close. Resolves once Redis has confirmed the subscription.
export async function followCandles(options, onCandle) {
  const redis = new Redis(options.redisUrl);
  redis.on("pmessage", (pattern, source, payload) => {
    const [symbol, timeframe] = source.split(":").slice(-2);
    onCandle(`candles:${symbol}:${timeframe}`, JSON.parse(payload));
  });
  await redis.psubscribe(`channel:exchange:${options.exchangeId}:candle:close:*:*`);
}

export function sayListening(port) {
  console.log(`listening on http://127.0.0.1:${port}`);
}

export function envelope(channel, candle) {
  return {
    type: "candle_close",
    channel,
    data: {
      timestamp: new Date(candle.timestamp).toISOString(),
      open: plain(candle.open),
      high: plain(candle.high),
      low: plain(candle.low),
      close: plain(candle.close),
      volume: plain(candle.volume),
    },
  };
}

// Exact for numbers of up to 15 digits. String() writes those below a millionth with an exponent.
export function plain(number) {
  const text = String(number);
  return text.includes("e-") ? number.toFixed(20).replace(/0+$/, "") : text;
}

// The subscriptions that match a channel.
export function subscriptionsOf(channel) {
  const [kind, symbol, timeframe] = channel.split(":");
  return [channel, `${kind}:*:${timeframe}`, `${kind}:${symbol}:*`, `${kind}:*:*`];
}

// The text that answers a client's message, after `change` was called for each channel.
export function obey(text, change) {
  const { action, channels } = JSON.parse(text);
  for (const channel of channels) {
    change(action, channel);
  }
  return JSON.stringify({ type: `${action}d`, channels });
}
