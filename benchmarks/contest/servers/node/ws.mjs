// The server as it is usually written with ws and ioredis: each event goes to each subscriber by send().

import { createServer } from "node:http";
import { WebSocket, WebSocketServer } from "ws";
import {
  ENDPOINT,
  INVALID_KEY,
  envelope,
  followCandles,
  obey,
  readOptions,
  sayListening,
  subscriptionsOf,
} from "./candle.mjs";

const options = readOptions();
const subscribers = new Map(); // subscription to clients

const http = createServer();
const sockets = new WebSocketServer({
  server: http,
  path: ENDPOINT,
  perMessageDeflate: options.compression && { threshold: 0 },
});

sockets.on("connection", (client, request) => {
  if (request.headers["x-api-key"] !== options.key) {
    client.close(INVALID_KEY, "Invalid API key");
    return;
  }
  const subscriptions = new Set();
  client.on("error", (error) => console.error(error.message));
  client.on("message", (message) => {
    const answer = obey(message, (action, channel) => {
      if (action === "subscribe") {
        if (!subscribers.has(channel)) {
          subscribers.set(channel, new Set());
        }
        subscribers.get(channel).add(client);
        subscriptions.add(channel);
      } else {
        subscribers.get(channel)?.delete(client);
        subscriptions.delete(channel);
      }
    });
    client.send(answer);
  });
  client.on("close", () => {
    for (const channel of subscriptions) {
      subscribers.get(channel).delete(client);
    }
  });
});

// A client with several matching subscriptions is in the result once.
function subscribersOf(channel) {
  const sets = subscriptionsOf(channel)
    .map((subscription) => subscribers.get(subscription))
    .filter((clients) => clients?.size);
  return sets.length > 1 ? new Set(sets.flatMap((clients) => [...clients])) : (sets[0] ?? []);
}

await followCandles(options, (channel, candle) => {
  const text = JSON.stringify(envelope(channel, candle));
  for (const client of subscribersOf(channel)) {
    if (client.readyState === WebSocket.OPEN) {
      client.send(text);
    }
  }
});
http.listen(options.port, "127.0.0.1", () => sayListening(http.address().port));
