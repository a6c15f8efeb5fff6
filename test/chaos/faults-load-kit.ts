// The small load of the stand for faults: readers of one value and writers that never end by themselves, and what became
// of each request.
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { expect } from "vitest";
import { type Api, type World, settingsUrl } from "../harness/broker.ts";
import { inTime } from "../harness/until.ts";

const WRITERS = 2;
const READERS = 4;
export const KEPT = "secret/Custom/kept";
export const VALUE = "kept through it all";
/** As a client that obeys Retry-After would, only less patient, so that each second of a fault has many requests. */
const PAUSE_MS = 40;

export type Seen = {
  readonly kind: "read" | "write";
  readonly id: string;
  readonly path: string;
  readonly status: number;
  readonly code: string | null;
  readonly retryAfter: string | null;
  readonly version: number | null;
  readonly at: number;
  readonly milliseconds: number;
};

/** One request of the load. A wrong value fails the test at once. */
async function ask(world: World, api: Api, kind: Seen["kind"], path: string): Promise<Seen> {
  const id = `${kind}-${randomBytes(6).toString("hex")}`;
  const headers = { "x-request-id": id };
  const at = performance.now();
  const answer =
    kind === "read"
      ? await api.get(settingsUrl(world.project, KEPT, {}, "/settings/value"), { headers })
      : await api.put(settingsUrl(world.project, path), { body: { value: `value of ${id}` }, headers });
  const milliseconds = performance.now() - at;
  const { status, body } = answer;
  if (kind === "read" && status === 200) expect(body.value).toBe(VALUE);
  return {
    kind,
    id,
    path,
    status,
    code: status >= 400 ? body.code : null,
    retryAfter: answer.headers.get("retry-after"),
    version: status < 300 ? body.version : null,
    at,
    milliseconds,
  };
}

/** A load that goes on until it is ended. */
export function startLoad({ world }: { readonly world: World }, apis: readonly Api[]) {
  const seen: Seen[] = [];
  const state = { over: false };
  const watchers = new Set<() => void>();
  const work = async (kind: Seen["kind"], who: number): Promise<void> => {
    const api = apis[who % apis.length];
    if (api === undefined) throw new Error("nobody to ask");
    while (!state.over) {
      seen.push(await ask(world, api, kind, `secret/Custom/own/${kind}-${who}`));
      for (const look of watchers) look();
      await pause(PAUSE_MS);
    }
  };
  const done = Promise.all([
    ...Array.from({ length: READERS }, (_, who) => work("read", who)),
    ...Array.from({ length: WRITERS }, (_, who) => work("write", who)),
  ]);
  // Told where it is awaited.
  done.catch(() => undefined);

  return {
    seen,
    /** Resolves once `enough` holds of what was seen. */
    until: (enough: () => boolean): Promise<void> => {
      const reached = Promise.race([
        new Promise<void>((resolve) => {
          const look = (): void => {
            if (!enough()) return;
            watchers.delete(look);
            resolve();
          };
          watchers.add(look);
          look();
        }),
        done.then(() => undefined),
      ]);
      const last = () => seen.slice(-5).map(({ kind, status, milliseconds }) => [kind, status, milliseconds]);
      return inTime(() => `enough of what was asked; at last ${JSON.stringify(last())}`, reached, 100);
    },
    async end(): Promise<void> {
      state.over = true;
      await done;
    },
  };
}

export type Load = ReturnType<typeof startLoad>;

/** So many answers of each kind that went well, sent after `since`. */
export function wentWell({ seen }: Load, since: number, count: number): boolean {
  return (["read", "write"] as const).every(
    (kind) =>
      seen.filter((each) => each.kind === kind && each.at >= since && each.status < 300).length >= count,
  );
}

/** So many that were refused with 503. */
export function refusals({ seen }: Load, since: number): number {
  return seen.filter(({ at, status }) => at >= since && status === 503).length;
}
