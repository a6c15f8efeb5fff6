// A listener to Server-Sent Events: a bare one, so that a thousand of them fit beside the broker in one process.
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Api } from "../harness/broker.ts";

export type Heard = {
  readonly id: string | null;
  readonly event: string;
  readonly data: Record<string, unknown>;
};
export type EventListener = {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly heard: Heard[];
  /** The last id that was heard: what to come back with. */
  readonly lastId: () => string;
  /** Resolves once what was heard is so; rejects when the stream ends before. */
  readonly until: (holds: (heard: readonly Heard[]) => boolean) => Promise<void>;
  /** Resolves when the broker has ended the stream. */
  readonly ended: Promise<void>;
  readonly close: () => void;
};

/** Resolves once the broker has answered, and for a stream once it is listened to. */
export function listen(base: string, api: Api, path: string, lastId?: string): Promise<EventListener> {
  const heard: Heard[] = [];
  const checks = new Set<() => void>();
  let last = lastId ?? "";
  let text = "";
  let isEnded = false;
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const { promise, resolve, reject } = Promise.withResolvers<EventListener>();

  function take(chunk: string): void {
    text += chunk;
    for (let at = text.indexOf("\n\n"); at !== -1; at = text.indexOf("\n\n")) {
      const fields = new Map(
        text
          .slice(0, at)
          .split("\n")
          .map((line) => line.split(/: ?(.*)/s, 2) as [string, string]),
      );
      text = text.slice(at + 2);
      const id = fields.get("id") ?? null;
      if (id !== null) last = id;
      const event = fields.get("event");
      if (event !== undefined)
        heard.push({ id, event, data: JSON.parse(fields.get("data") ?? "{}") as Heard["data"] });
    }
    for (const check of checks) check();
  }

  const sent: ClientRequest = request(base + path, {
    agent: false,
    headers: {
      authorization: `Bearer ${api.token}`,
      ...(lastId === undefined ? {} : { "last-event-id": lastId }),
    },
  });
  sent.on("error", reject);
  sent.on("response", (response) => {
    response.setEncoding("utf8");
    response.on("data", take);
    const over = (): void => {
      isEnded = true;
      end();
      for (const check of checks) check();
    };
    response.on("end", over);
    response.on("error", over);
    response.on("close", over);
    const listener: EventListener = {
      status: response.statusCode ?? 0,
      headers: response.headers,
      heard,
      lastId: () => last,
      ended,
      close: () => sent.destroy(),
      until: (holds) =>
        new Promise((done, failed) => {
          const check = (): void => {
            if (holds(heard)) done();
            else if (isEnded) failed(new Error(`the stream ended after ${JSON.stringify(heard)}`));
            else return;
            checks.delete(check);
          };
          checks.add(check);
          check();
        }),
    };
    if (listener.status !== 200) return resolve(listener);
    listener.until(() => heard.some(({ event }) => event === "ready")).then(() => resolve(listener), reject);
  });
  sent.end();
  return promise;
}
