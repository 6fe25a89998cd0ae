// The server as it is usually written with socket.io, its Redis adapter and ioredis: a room per channel.

import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";
import { envelope, followCandles, readOptions, sayListening, subscriptionsOf } from "./candle.mjs";

const options = readOptions();
const publisher = new Redis(options.redisUrl);
const http = createServer();
const io = new Server(http, {
  adapter: createAdapter(publisher, publisher.duplicate()),
  transports: ["websocket"],
  perMessageDeflate: options.compression && { threshold: 0 },
});

io.use((socket, next) => {
  const valid = socket.handshake.headers["x-api-key"] === options.key;
  next(valid ? undefined : new Error("Invalid API key"));
});

io.on("connection", (socket) => {
  socket.on("subscribe", (channels) => {
    socket.join(channels);
    socket.emit("subscribed", channels);
  });
  socket.on("unsubscribe", (channels) => {
    channels.forEach((channel) => socket.leave(channel));
    socket.emit("unsubscribed", channels);
  });
});

await followCandles(options, (channel, candle) => {
  // A socket in several of these rooms gets the event once.
  io.to(subscriptionsOf(channel)).emit("candle_close", envelope(channel, candle));
});
http.listen(options.port, "127.0.0.1", () => sayListening(http.address().port));
