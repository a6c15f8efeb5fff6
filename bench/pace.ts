// An even rate: a request whenever it is due, whatever became of those before it. Its time counts from then, so that what
// had to wait for a connection is as slow as it was ("coordinated omission"). autocannon's own rate is a burst at the
// beginning of each second. Bare sockets, since a client that costs more than autocannon would be what is measured.
import { once } from "node:events";
import { type Socket, connect } from "node:net";
import { setTimeout } from "node:timers/promises";
import type { Fired, Round } from "./load.ts";

const HEADER_END = "\r\n\r\n";
type Due = { readonly bytes: string; readonly at: number };

/** @throws Error when an answer is none, of no told length, or of another status */
export async function pace(
  { urls, shots, status, connections, amount, rate }: Round & { readonly rate: number },
  numbered: (body: string) => string,
): Promise<Fired> {
  const requests = shots.map(({ method, path, headers, body }) => {
    const lines = Object.entries({ host: "localhost", ...headers }).map(
      ([name, value]) => `${name}: ${value}`,
    );
    const head = [`${method} ${path} HTTP/1.1`, ...lines].join("\r\n");
    return (): string => {
      if (body === undefined) return head + HEADER_END;
      const text = numbered(body);
      return `${head}\r\ncontent-length: ${Buffer.byteLength(text)}${HEADER_END}${text}`;
    };
  });
  const latencies: number[] = [];
  const waiting: Due[] = [];
  const idle: ((due: Due) => void)[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<void>();

  function talk(socket: Socket): void {
    let sentAt = 0;
    let received = "";
    const send = ({ bytes, at }: Due): void => {
      sentAt = at;
      received = "";
      socket.write(bytes);
    };
    socket.setEncoding("latin1").on("data", (text: string) => {
      received += text;
      const end = received.indexOf(HEADER_END);
      if (end < 0) return;
      const told = /\r\ncontent-length: (\d+)/i.exec(received)?.[1];
      const length = told === undefined && status === 304 ? 0 : Number(told);
      if (Number.isNaN(length)) return reject(new Error("the answer does not tell its length"));
      if (received.length < end + HEADER_END.length + length) return;
      if (!received.startsWith(`HTTP/1.1 ${status} `)) return reject(new Error(received.slice(0, end)));
      latencies.push(performance.now() - sentAt);
      if (latencies.length === amount) resolve();
      const next = waiting.shift();
      if (next === undefined) idle.push(send);
      else send(next);
    });
    socket.on("error", reject).on("close", () => reject(new Error("the connection was closed")));
    idle.push(send);
  }

  const sockets = Array.from({ length: connections }, (_, index) => {
    const { hostname, port } = new URL(urls[index % urls.length] ?? "");
    return connect({ host: hostname, port: Number(port), noDelay: true });
  });
  // The rate is of requests; that all connect at once is another matter.
  await Promise.all(sockets.map((socket) => once(socket, "connect")));
  sockets.forEach(talk);
  const startedAt = performance.now();
  try {
    for (let sent = 0; sent < amount; await Promise.race([setTimeout(1), promise]))
      for (const now = performance.now(); sent < amount && startedAt + (sent * 1_000) / rate <= now; sent++) {
        const bytes = requests[Math.floor(Math.random() * requests.length)]?.() ?? "";
        const due = { bytes, at: startedAt + (sent * 1_000) / rate };
        const send = idle.pop();
        if (send === undefined) waiting.push(due);
        else send(due);
      }
    await promise;
  } finally {
    for (const socket of sockets) socket.removeAllListeners("close").destroy();
  }
  const seconds = (performance.now() - startedAt) / 1_000;
  latencies.sort((one, other) => one - other);
  const at = (part: number): number =>
    Math.round((latencies[Math.floor(part * latencies.length)] ?? Number.NaN) * 10) / 10;
  return { requests: amount, seconds, p50: at(0.5), p99: at(0.99), p99_9: at(0.999) };
}
