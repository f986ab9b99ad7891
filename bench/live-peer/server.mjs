// Node's Socket.IO as its guide sets it up for several processes: the Redis adapter, websocket only.
// Usage: node server.mjs PORT REDIS_SOCKET
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { Redis } from "ioredis";
import { Server } from "socket.io";

const [port, redis] = process.argv.slice(2);
const http = createServer();
// JSON in Redis, so that whoever commits needs no msgpack; V8 reads it faster too.
const parser = { encode: JSON.stringify, decode: (buffer) => JSON.parse(buffer) };
const io = new Server(http, {
  transports: ["websocket"],
  pingInterval: 10_000,
  pingTimeout: 10_000,
  adapter: createAdapter(new Redis(redis), new Redis(redis), { parser }),
});

io.on("connection", (socket) => {
  socket.on("watch", ({ things }, answer) => {
    socket.join(Object.keys(things));
    answer({ v: 1, things: [] });
  });
});
http.listen(Number(port), "127.0.0.1", () => console.log("listening"));
