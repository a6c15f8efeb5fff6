// A server that answers what a script says, for the tests of the TypeScript client. It is closed after each test.
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach } from "vitest";

export type Scripted =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: unknown }
  | "hang up"
  | "silence";

export const PAGE = { status: 200, body: { settings: [], next_cursor: null } };
export const problem = (status: number, code: string, headers: Record<string, string> = {}): Scripted => ({
  status,
  headers: { "content-type": "application/problem+json", "x-request-id": "req-1", ...headers },
  body: {
    type: "about:blank",
    title: code,
    status,
    detail: "As the script says.",
    code,
    request_id: "req-1",
  },
});
export const UNAVAILABLE = problem(503, "unavailable");
export const STORED = { status: 200, body: { value: null, version: 1 } };
/** What something on the way to the broker says. */
export const proxy = (status: number): Scripted => ({
  status,
  headers: { "content-type": "text/html" },
  body: "<h1>Sorry</h1>",
});

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

/** Answers in turn; the last answer again and again. */
export async function serve(...script: readonly Scripted[]) {
  const requests: {
    readonly method: string | undefined;
    readonly url: string | undefined;
    readonly body: string;
  }[] = [];
  const respond = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const body = (await request.setEncoding("utf8").toArray()).join("");
    requests.push({ method: request.method, url: request.url, body });
    const answer = script[Math.min(requests.length, script.length) - 1] ?? "hang up";
    if (answer === "silence") return;
    if (answer === "hang up") {
      request.socket.destroy();
      return;
    }
    response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
    response.end(typeof answer.body === "string" ? answer.body : JSON.stringify(answer.body));
  };
  const server = createServer((request, response) => void respond(request, response));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  closing.push(close);
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}
