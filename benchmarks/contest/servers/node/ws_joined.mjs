// ws and ioredis with joining written by hand: one frame per event, one write per client and turn of the loop.
//
// A frame is made once per event and shared. Clients with equal subscriptions are a cohort, and their pending frames
// are joined once. ws does the handshake, reads and answers. Events are written to the socket directly, which is
// safe because ws without compression writes to the socket at once and in order. With --compression a frame is
// compressed once and shared, each in a context of its own, because Node has no public function that compresses
// several messages in one context without a callback in between. So the server never refers to earlier messages
// (serverNoContextTakeover), and ws itself compresses nothing.

import { createServer } from "node:http";
import { constants, deflateRawSync } from "node:zlib";
import { WebSocketServer } from "ws";
import {
  ENDPOINT,
  INVALID_KEY,
  followCandles,
  obey,
  plain,
  readOptions,
  sayListening,
  subscriptionsOf,
} from "./candle.mjs";

const SKIP_BYTES = 64 * 1024; // a client with more than this unsent gets no further events until it has caught up
const TEXT = 0x81;
const COMPRESSED = 0x40;

const options = readOptions();
const cohorts = new Map(); // sorted subscriptions, joined by blanks, to cohort
const cohortsOf = new Map(); // subscription to cohorts
const matching = new Map(); // channel to cohorts; emptied whenever a cohort comes or goes
let due = []; // cohorts with frames

function findCohort(subscriptions) {
  const sorted = [...subscriptions].sort();
  const name = sorted.join(" ");
  let cohort = cohorts.get(name);
  if (!cohort) {
    cohort = { name, subscriptions: sorted, clients: new Set(), deflating: 0, frames: [], deflated: [] };
    cohorts.set(name, cohort);
    for (const subscription of sorted) {
      if (!cohortsOf.has(subscription)) {
        cohortsOf.set(subscription, new Set());
      }
      cohortsOf.get(subscription).add(cohort);
    }
    matching.clear();
  }
  return cohort;
}

function join(client) {
  flush(); // pending frames belong to the cohorts before the change
  leave(client);
  if (client.subscriptions.size) {
    client.cohort = findCohort(client.subscriptions);
    client.cohort.clients.add(client);
    client.cohort.deflating += client.deflates;
  }
}

function leave(client) {
  const { cohort } = client;
  if (!cohort) {
    return;
  }
  client.cohort = undefined;
  cohort.clients.delete(client);
  cohort.deflating -= client.deflates;
  if (!cohort.clients.size) {
    cohorts.delete(cohort.name);
    cohort.subscriptions.forEach((subscription) => cohortsOf.get(subscription).delete(cohort));
    matching.clear();
  }
}

function cohortsMatching(channel) {
  let found = matching.get(channel);
  if (!found) {
    const lists = subscriptionsOf(channel).map((subscription) => [...(cohortsOf.get(subscription) ?? [])]);
    found = [...new Set(lists.flat())];
    matching.set(channel, found);
  }
  return found;
}

let knownSecond = -1;
let knownText = "";

function timestamp(milliseconds) {
  const second = Math.floor(milliseconds / 1000);
  if (second !== knownSecond) {
    knownSecond = second;
    knownText = new Date(second * 1000).toISOString().slice(0, -4);
  }
  return `${knownText}${String(milliseconds - second * 1000).padStart(3, "0")}Z`;
}

// Channels and numbers hold nothing that JSON escapes, and nothing beyond ASCII.
function candleText(channel, { timestamp: time, open, high, low, close, volume }) {
  return (
    `{"type":"candle_close","channel":"${channel}","data":{"timestamp":"${timestamp(time)}",` +
    `"open":"${plain(open)}","high":"${plain(high)}","low":"${plain(low)}","close":"${plain(close)}",` +
    `"volume":"${plain(volume)}"}}`
  );
}

function frameHead(first, length) {
  if (length < 126) {
    return [first, length];
  }
  return [first, 126, length >> 8, length & 0xff]; // no candle is longer than 65,535 bytes
}

function textFrame(text) {
  const head = frameHead(TEXT, text.length);
  const frame = Buffer.allocUnsafe(head.length + text.length);
  frame.set(head);
  frame.latin1Write(text, head.length);
  return frame;
}

function deflatedFrame(text) {
  // The four bytes at the end of a flush are removed (RFC 7692 section 7.2.1).
  const body = deflateRawSync(text, { level: 1, finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
  return Buffer.concat([Buffer.from(frameHead(TEXT | COMPRESSED, body.length)), body]);
}

// One write per client.
function flush() {
  const flushed = due;
  due = [];
  for (const cohort of flushed) {
    const bytes = joined(cohort.frames);
    const deflated = cohort.deflating ? joined(cohort.deflated) : bytes;
    cohort.frames = [];
    cohort.deflated = [];
    for (const { deflates, socket } of cohort.clients) {
      if (socket.writableLength <= SKIP_BYTES && socket.writable) {
        socket.write(deflates ? deflated : bytes);
      }
    }
  }
}

function joined(frames) {
  return frames.length === 1 ? frames[0] : Buffer.concat(frames);
}

const http = createServer();
const sockets = new WebSocketServer({
  server: http,
  path: ENDPOINT,
  perMessageDeflate: options.compression && { serverNoContextTakeover: true },
});

sockets.on("connection", (ws, request) => {
  if (request.headers["x-api-key"] !== options.key) {
    ws.close(INVALID_KEY, "Invalid API key");
    return;
  }
  const deflates = ws.extensions !== "";
  const client = { socket: request.socket, subscriptions: new Set(), cohort: undefined, deflates };
  ws.on("error", (error) => console.error(error.message));
  ws.on("message", (message) => {
    const answer = obey(message, (action, channel) => {
      if (action === "subscribe") {
        client.subscriptions.add(channel);
      } else {
        client.subscriptions.delete(channel);
      }
    });
    join(client);
    ws.send(answer, { compress: false });
  });
  ws.on("close", () => leave(client));
});

await followCandles(options, (channel, candle) => {
  const found = cohortsMatching(channel);
  if (!found.length) {
    return;
  }
  const text = candleText(channel, candle);
  const frame = textFrame(text);
  const deflated = found.some((cohort) => cohort.deflating) ? deflatedFrame(text) : frame;
  if (!due.length) {
    setImmediate(flush); // after all messages that have arrived, which may take several reads
  }
  for (const cohort of found) {
    if (!cohort.frames.length) {
      due.push(cohort);
    }
    cohort.frames.push(frame);
    if (cohort.deflating) {
      cohort.deflated.push(deflated);
    }
  }
});
http.listen(options.port, "127.0.0.1", () => sayListening(http.address().port));
