// What a watch of the TypeScript client lives through, and what ends it, against a server that answers what a script
// says. No test waits: time is the clock's.
import { describe, expect, it } from "vitest";
import { createClient } from "../../clients/typescript/src/index.ts";
import { failure, fakeClock } from "./typescript-kit.ts";
import { UNAVAILABLE, problem, proxy, serve } from "./typescript-script.ts";

const REF = "project/p/secret/Custom/x";

describe("a watch", () => {
  it("lives through failures that pass, and tells of them", async () => {
    const opened = {
      status: 200,
      headers: { etag: '"1"' },
      body: { path: "p", type: "custom", version: 1, value: "v" },
    };
    const outages = [
      "hang up",
      problem(429, "rate_limited"),
      ...[408, 425, 502, 503, 504].map(proxy),
      problem(500, "internal"),
      problem(502, "manager_failed"),
      proxy(200),
      proxy(302),
    ] as const;
    const { url } = await serve(UNAVAILABLE, opened, ...outages, {
      ...opened,
      body: { ...opened.body, version: 2 },
    });
    const { clock } = fakeClock();
    const told: Error[] = [];
    const client = createClient({ url, token: "t", clock, retry: false });
    const watched = client.watch(REF, { onError: (error) => told.push(error) });
    expect((await watched.next()).value).toMatchObject({ version: 1 });
    expect((await watched.next()).value).toMatchObject({ version: 2 });
    await watched.return();
    const statuses = [503, 0, 429, 408, 425, 502, 503, 504, 500, 502, 200, 302];
    expect(told).toMatchObject(statuses.map((status) => ({ status })));
  });

  it("ends where looking again mends nothing: it is refused, or there is no call to make", async () => {
    const told: Error[] = [];
    const onError = (error: Error) => told.push(error);
    const { clock } = fakeClock();
    for (const status of [400, 401, 403, 404, 410, 422]) {
      const { url } = await serve(problem(status, "conflict"));
      const watched = createClient({ url, token: "t", clock }).watch(REF, { onError });
      expect(await failure(watched.next())).toMatchObject({ status });
    }
    const { url, requests } = await serve(UNAVAILABLE);
    for (const given of [{ token: "" }, { tokenFile: "/nowhere/token" }]) {
      const watched = createClient({ url, clock, ...given }).watch(REF, { onError });
      expect(await failure(watched.next())).toMatchObject({ status: 0, code: "no_token" });
    }
    expect([told, requests]).toEqual([[], []]);
  });
});
