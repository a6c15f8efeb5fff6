// What the tests of the TypeScript client share: a clock that passes no time, a fetch that is counted, the error of a call.
import { expect } from "vitest";
import { type Clock, CofferError } from "../../clients/typescript/src/index.ts";

/** Time passes only by sleeping, at once, and by `pass`. */
export function fakeClock(onSleep: (nth: number) => void | Promise<void> = () => undefined) {
  const slept: number[] = [];
  let now = Date.now();
  const clock: Clock = {
    now: () => now,
    random: () => 0.5,
    async sleep(ms, signal) {
      signal?.throwIfAborted();
      slept.push(ms);
      now += ms;
      await onSleep(slept.length);
      signal?.throwIfAborted();
    },
  };
  return { clock, slept, pass: (ms: number) => (now += ms) };
}

/** The runtime's fetch, with a record of what was asked and answered. */
export function countedFetch() {
  const calls: { readonly path: string; readonly status: number; readonly authorization: string | null }[] =
    [];
  const counted: typeof fetch = async (input, init) => {
    const response = await fetch(input, init);
    const { pathname: path } = new URL(response.url);
    calls.push({
      path,
      status: response.status,
      authorization: new Headers(init?.headers).get("authorization"),
    });
    return response;
  };
  return { fetch: counted, calls };
}

/** What a call that must fail fails with. */
export async function failure(call: Promise<unknown>): Promise<CofferError> {
  const error: unknown = await call.then(
    () => expect.unreachable("it succeeded"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof CofferError)) throw error;
  return error;
}
