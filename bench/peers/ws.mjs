// A bare ws server that sends each client an event of its own. Usage: node ws.mjs PORT
// It speaks what bench/websocket.py asks of every server: /state, /burst/<mode>, /sweeps/<mode>.
import http from "node:http";
import { WebSocketServer } from "ws";

const EVENTS_PER_BURST = 10;
const SWEEPS = 10;
const SWEEP_EVERY_MS = 100;
const live = new Set();
let number = 0;

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function text(stamped) {
  const stamp = stamped ? process.hrtime.bigint().toString() : "0000000000000000000";
  number += 1;
  return JSON.stringify({
    id: number,
    type: "step.running",
    videoId: "00000000-0000-7000-8000-000000000001",
    jobId: "00000000-0000-7000-8000-000000000002",
    step: "ladder",
    state: "running",
    attempt: 1,
    title: `t:${stamp}`,
    at: "2026-01-01T12:00:00Z",
  });
}

function sweep(mode, stamped) {
  if (mode === "same") {
    const same = text(stamped);
    for (const socket of live) socket.send(same);
  } else {
    for (const socket of live) socket.send(text(stamped));
  }
}

async function burst(mode) {
  const before = process.cpuUsage();
  for (let count = 0; count < EVENTS_PER_BURST; count += 1) {
    sweep(mode, false);
    await sleep(0);
  }
  const spent = process.cpuUsage(before);
  return { cpu_s: (spent.user + spent.system) / 1e6 };
}

async function sweeps(mode) {
  for (let count = 0; count < SWEEPS; count += 1) {
    sweep(mode, true);
    await sleep(SWEEP_EVERY_MS);
  }
  return {};
}

const server = http.createServer(async (request, response) => {
  const [, what, mode] = request.url.split("/");
  const state = () => {
    globalThis.gc?.();
    return { rss: process.memoryUsage().rss, live: live.size };
  };
  const answer = what === "state" ? state() : what === "burst" ? await burst(mode) : await sweeps(mode);
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(answer));
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on("connection", (socket) => {
  socket.on("message", () => {
    live.add(socket);
    socket.send('{"type":"snapshot"}');
  });
  socket.on("close", () => live.delete(socket));
  socket.on("error", () => socket.terminate());
});
server.listen({ port: Number(process.argv[2]), host: "127.0.0.1", backlog: 4096 });
