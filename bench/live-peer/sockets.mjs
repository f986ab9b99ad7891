// A thousand browsers without pages: opens sockets, watches, and notes when each change comes. The same for both sides.
// Reads one JSON line of what to do: {urls, cookie, sockets, things}. Prints "watching", and when its input ends, one
// line {frames, seen: {"company:7 12": [nanoseconds of CLOCK_MONOTONIC, ...]}}.
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import WebSocket from "ws";

const STATE = /"key":"([^"]+)","version":(\d+)/g;
const seen = new Map();
let frames = 0;

function note(text, at) {
  frames += 1;
  for (const [, key, version] of text.matchAll(STATE)) {
    const name = `${key} ${version}`;
    const times = seen.get(name);
    if (times) times.push(at);
    else seen.set(name, [at]);
  }
}

// Engine.IO 4 and Socket.IO 5 by hand: a full client for each socket would be most of the load.
function open(url, cookie, things) {
  return new Promise((watching, failed) => {
    const socket = new WebSocket(`${url.replace("http", "ws")}/socket.io/?EIO=4&transport=websocket`, {
      headers: cookie ? { Cookie: cookie } : {},
      perMessageDeflate: false,
    });
    socket.on("error", failed);
    socket.on("close", () => failed(new Error(`${url} closed the socket`)));
    socket.on("message", (data) => {
      const at = Number(process.hrtime.bigint());
      const text = data.toString();
      if (text.startsWith('42["changes"')) note(text, at);
      else if (text === "2") socket.send("3");
      else if (text.startsWith("0{")) socket.send('40{"tz":"UTC"}');
      else if (text.startsWith("40{")) socket.send(`420["watch",${JSON.stringify({ v: 1, things })}]`);
      else if (text.startsWith("430[")) watching();
      else if (text.startsWith("44")) failed(new Error(`${url} refused the socket: ${text}`));
    });
  });
}

const lines = createInterface({ input: process.stdin });
lines.once("line", async (line) => {
  const { urls, cookie, sockets, things } = JSON.parse(line);
  // Some at a time, as a server that starts anew gets them back.
  for (let opened = 0; opened < sockets; opened += 50) {
    await Promise.all(
      Array.from({ length: Math.min(50, sockets - opened) }, (_, n) => open(urls[n % urls.length], cookie, things)),
    );
  }
  console.log("watching");
});
lines.once("close", async () => {
  // The last frames are on their way, and on a busy machine for longer than a second.
  let before;
  do {
    before = frames;
    await setTimeout(1_000);
  } while (frames > before);
  process.stdout.write(`${JSON.stringify({ frames, seen: Object.fromEntries(seen) })}\n`, () => process.exit(0));
});
