// The server as it is usually written with uWebSockets.js and ioredis: publish() by the library's own topics.

import uWS from "@trufflesuite/uws-js-unofficial";
import { ENDPOINT, envelope, followCandles, obey, readOptions, sayListening, subscriptionsOf } from "./candle.mjs";

const options = readOptions();
if (!uWS._cfg) {
  // Without a binary for this Node the package falls back to ws, which must not be measured under this name.
  console.error("uWebSockets.js has no binary for this version of Node");
  process.exit(1);
}

// Topics are plain names here, so a wildcard is a topic of its own, and each event is published on four. A client must
// get it once, so a topic inside another topic of the client is left out. Pairs like `candles:A:*` and `candles:*:1m`
// still overlap; clients with such a pair are served one by one.
const servedByHand = new Set();

function lies(inner, outer) {
  const theirs = outer.split(":");
  return inner !== outer && inner.split(":").every((part, place) => theirs[place] === "*" || theirs[place] === part);
}

function topicsOf(subscriptions) {
  const all = [...subscriptions];
  if (!all.some((one) => one.includes("*"))) {
    return all;
  }
  return all.filter((one) => !all.some((other) => lies(one, other)));
}

function overlap(topics) {
  return topics.some((topic) => topic.includes(":*:")) && topics.some((topic) => topic.endsWith(":*"));
}

function arrange(client) {
  const { subscriptions } = client.getUserData();
  const topics = topicsOf(subscriptions);
  const byHand = overlap(topics);
  const wanted = new Set(byHand ? [] : topics);
  for (const topic of client.getTopics()) {
    if (!wanted.delete(topic)) {
      client.unsubscribe(topic);
    }
  }
  for (const topic of wanted) {
    client.subscribe(topic);
  }
  if (byHand) {
    servedByHand.add(client);
  } else {
    servedByHand.delete(client);
  }
}

const app = uWS.App();
app.ws(ENDPOINT, {
  compression: options.compression ? uWS.SHARED_COMPRESSOR : uWS.DISABLED,
  upgrade(response, request, context) {
    if (request.getHeader("x-api-key") !== options.key) {
      response.writeStatus("401 Unauthorized").end();
      return;
    }
    response.upgrade(
      { subscriptions: new Set() },
      request.getHeader("sec-websocket-key"),
      request.getHeader("sec-websocket-protocol"),
      request.getHeader("sec-websocket-extensions"),
      context,
    );
  },
  message(client, message) {
    const { subscriptions } = client.getUserData();
    const answer = obey(Buffer.from(message).toString(), (action, channel) => {
      if (action === "subscribe") {
        subscriptions.add(channel);
      } else {
        subscriptions.delete(channel);
      }
    });
    arrange(client);
    client.send(answer);
  },
  close(client) {
    servedByHand.delete(client);
  },
});

await followCandles(options, (channel, candle) => {
  const text = JSON.stringify(envelope(channel, candle));
  const matching = subscriptionsOf(channel);
  for (const topic of matching) {
    app.publish(topic, text, false, options.compression);
  }
  for (const client of servedByHand) {
    const { subscriptions } = client.getUserData();
    if (matching.some((subscription) => subscriptions.has(subscription))) {
      client.send(text, false, options.compression);
    }
  }
});
app.listen("127.0.0.1", options.port, (listening) => {
  if (!listening) {
    console.error(`port ${options.port} cannot be opened`);
    process.exit(1);
  }
  sayListening(uWS.us_socket_local_port(listening));
});
