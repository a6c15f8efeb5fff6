// A receiver of webhooks on this machine: it keeps what it was sent, checks each signature by the Standard Webhooks
// scheme, and answers as a test says.
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { inTime } from "../harness/until.ts";

/** The environment of a broker that may call receivers on this machine. */
export const LOOPBACK = { COFFER_PRIVATE_ADDRESSES_ALLOWED: "127.0.0.0/8" };

export type Received = {
  readonly id: string;
  readonly timestamp: number;
  readonly signature: string;
  readonly body: {
    readonly type: string;
    readonly timestamp: string;
    readonly data: Record<string, unknown>;
  };
  readonly text: string;
};
/** What to answer; undefined: 204. */
export type Behave = (
  message: Received,
  response: ServerResponse,
) => undefined | number | object | "hang" | Promise<undefined | number | object | "hang">;

export type Receiver = Awaited<ReturnType<typeof startReceiver>>;

export async function startReceiver(behave: Behave = () => undefined) {
  const received: Received[] = [];
  const hanging = new Set<ServerResponse>();
  let waiting: (() => void)[] = [];
  const server = createServer((request, response) => void handle(request, response));

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString("utf8");
    const { headers } = request;
    const message: Received = {
      id: String(headers["webhook-id"]),
      timestamp: Number(headers["webhook-timestamp"]),
      signature: String(headers["webhook-signature"]),
      body: JSON.parse(text) as Received["body"],
      text,
    };
    received.push(message);
    const said = await behave(message, response);
    if (said === "hang") hanging.add(response);
    else if (typeof said === "object")
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(said));
    else if (!response.headersSent) response.writeHead(said ?? 204).end();
    for (const wake of waiting.splice(0)) wake();
  }

  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    received,
    /** Resolves once what it received is so. */
    async until(holds: (received: readonly Received[]) => boolean): Promise<void> {
      const came = async (): Promise<void> => {
        while (!holds(received)) await new Promise<void>((resolve) => waiting.push(resolve));
      };
      await inTime(() => `what a test expects of ${received.length} messages received`, came());
    },
    async close(): Promise<void> {
      waiting = [];
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

/** Whether a message is signed with a secret, as any library of Standard Webhooks would see it. */
export function isSigned({ id, timestamp, signature, text }: Received, secret: string): boolean {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  const mac = createHmac("sha256", key).update(`${id}.${timestamp}.${text}`).digest("base64");
  return signature.split(" ").includes(`v1,${mac}`);
}
