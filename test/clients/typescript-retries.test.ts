// The TypeScript client's retries, against a server that answers what a script says. No test waits: time is the clock's.
import { describe, expect, it } from "vitest";
import { type Client, CofferError, createClient } from "../../clients/typescript/src/index.ts";
import { failure, fakeClock } from "./typescript-kit.ts";
import { PAGE, STORED, UNAVAILABLE, problem, proxy, serve } from "./typescript-script.ts";

const address = ["project", "p", "secret/Custom/x"] as const;
const REF = address.join("/");

describe("retries", () => {
  it("waits as long as Retry-After says, and no less, on 503 and on 429", async () => {
    const date = (now: number) => new Date(now + 5_000).toUTCString();
    const { clock, slept } = fakeClock();
    const { url, requests } = await serve(
      problem(503, "unavailable", { "retry-after": "2" }),
      problem(429, "rate_limited", { "retry-after": "3" }),
      problem(503, "unavailable", { "retry-after": date(clock.now()) }),
      PAGE,
    );
    const client = createClient({ url, token: "t", clock });
    expect(await client.getSettings(...address)).toEqual([]);
    expect(requests).toHaveLength(4);
    // Half of the backoff's step, as the clock's chance has it, on top of what was asked for.
    expect(slept.slice(0, 2)).toEqual([2_125, 3_250]);
    expect(slept[2]).toBe(500);
  });

  it("backs off exponentially with jitter where nothing is said, and gives up after so many", async () => {
    const { clock, slept } = fakeClock();
    const { url, requests } = await serve(UNAVAILABLE);
    const client = createClient({
      url,
      token: "t",
      clock,
      retry: { attempts: 5, baseMs: 100, maxWaitMs: 400 },
    });
    expect(await failure(client.getValue(...address))).toMatchObject({
      status: 503,
      code: "unavailable",
      requestId: "req-1",
    });
    expect(requests).toHaveLength(5);
    expect(slept).toEqual([50, 100, 200, 200]);
  });

  it("does not wait beyond its total time: a long Retry-After fails at once and is told", async () => {
    const { clock, slept } = fakeClock();
    const { url, requests } = await serve(problem(503, "unavailable", { "retry-after": "3600" }));
    const error = await failure(createClient({ url, token: "t", clock }).getSettings(...address));
    expect(error).toMatchObject({ status: 503, retryAfterMs: 3_600_000, temporary: true });
    expect([requests.length, slept.length]).toEqual([1, 0]);
  });

  it("never retries with retry: false, nor what will not get better", async () => {
    const { url, requests } = await serve(UNAVAILABLE);
    await failure(createClient({ url, token: "t", retry: false }).getSettings(...address));
    expect(requests).toHaveLength(1);
    for (const status of [400, 401, 403, 404, 409, 410, 412, 422, 500, 502]) {
      const other = await serve(problem(status, "conflict"));
      expect(
        await failure(createClient({ url: other.url, token: "t" }).getSettings(...address)),
      ).toMatchObject({ status });
      expect(other.requests).toHaveLength(1);
    }
  });

  it("sends a PUT again with the same body", async () => {
    const { clock } = fakeClock();
    const { url, requests } = await serve("hang up", UNAVAILABLE, {
      status: 201,
      body: { value: null, version: 1 },
    });
    const client = createClient({ url, token: "t", clock });
    expect(await client.put(...address, { value: "v" })).toMatchObject({ version: 1 });
    expect(requests.map(({ method, body }) => [method, body])).toEqual(
      Array.from({ length: 3 }, () => ["PUT", '{"value":"v"}']),
    );
  });

  it("repeats no change with a condition and no deletion that may have been made: no answer, 503, a proxy's", async () => {
    const changes: readonly ((client: Client) => Promise<unknown>)[] = [
      (client) => client.put(...address, { value: "v" }, { ifMatch: 1 }),
      (client) => client.put(...address, { value: "v" }, { ifNoneMatch: "*" }),
      (client) => client.patch(...address, { description: "d" }, { ifMatch: 1 }),
      (client) => client.delete(...address),
      (client) => client.delete(...address, { ifMatch: 1 }),
    ];
    const unknown = { 0: "hang up", 502: proxy(502), 503: UNAVAILABLE, 504: proxy(504) } as const;
    const { clock } = fakeClock();
    for (const change of changes) {
      for (const [status, answer] of Object.entries(unknown)) {
        // What a second request would be told, by what the first one did.
        const { url, requests } = await serve(answer, problem(412, "precondition_failed"));
        const error = await failure(change(createClient({ url, token: "t", clock })));
        expect([error.status, requests.length]).toEqual([Number(status), 1]);
      }
      // Who was not let in has done nothing.
      const refused = await serve(problem(429, "rate_limited"), STORED);
      await change(createClient({ url: refused.url, token: "t", clock }));
      expect(refused.requests).toHaveLength(2);
    }
  });

  it("repeats a PATCH without a condition: metadata that is there already changes nothing", async () => {
    const { clock } = fakeClock();
    const { url, requests } = await serve("hang up", UNAVAILABLE, STORED);
    await createClient({ url, token: "t", clock }).patch(...address, { description: "d" });
    expect(requests.map(({ method }) => method)).toEqual(["PATCH", "PATCH", "PATCH"]);
  });

  it("repeats a POST only where it reads: resolve, never rollback or restore", async () => {
    const { clock } = fakeClock();
    const outcome = { ref: REF, status: 200, value: "v", version: 1, setting_id: "id" };
    const { url, requests } = await serve(UNAVAILABLE, { status: 200, body: { results: [outcome] } });
    const value = await createClient({ url, token: "t", clock }).resolve(REF);
    expect([value.reveal(), requests.length]).toEqual(["v", 2]);
    for (const call of ["rollback", "restore"] as const) {
      const server = await serve(UNAVAILABLE);
      const client = createClient({ url: server.url, token: "t", clock });
      await failure(call === "rollback" ? client.rollback(...address, 1) : client.restore(...address));
      expect(server.requests).toHaveLength(1);
    }
  });

  it("resolves again only the references that may succeed later", async () => {
    const { clock, slept } = fakeClock();
    const refs = ["a", "b", "c"].map((name) => `project/p/secret/Custom/${name}`);
    const done = (ref: string | undefined) => ({
      ref,
      status: 200,
      value: "v",
      version: 1,
      setting_id: "id",
    });
    const busy = { ref: refs[1], status: 503, code: "unavailable", detail: "Later." };
    const gone = { ref: refs[2], status: 404, code: "not_found", detail: "None." };
    const { url, requests } = await serve(
      { status: 200, body: { results: [done(refs[0]), busy, gone] } },
      { status: 200, body: { results: [done(refs[1])] } },
    );
    const outcomes = await createClient({ url, token: "t", clock }).resolve(refs);
    expect(outcomes.map(({ status }) => status)).toEqual([200, 200, 404]);
    expect(requests.map(({ body }) => JSON.parse(body).refs)).toEqual([refs, [refs[1]]]);
    expect(slept).toHaveLength(1);
  });

  it("ends at once when the caller aborts, also while it waits", async () => {
    const controller = new AbortController();
    const { clock } = fakeClock(() => controller.abort(new Error("enough")));
    const { url, requests } = await serve(UNAVAILABLE);
    const client = createClient({ url, token: "t", clock });
    await expect(client.getSettings(...address, { signal: controller.signal })).rejects.toThrow("enough");
    expect(requests).toHaveLength(1);
    await expect(
      client.getSettings(...address, { signal: AbortSignal.abort(new Error("before")) }),
    ).rejects.toThrow("before");
    expect(requests).toHaveLength(1);
  });
});

describe("the system's clock", () => {
  it("is let go of when the caller aborts in a wait", async () => {
    const controller = new AbortController();
    const { url, requests } = await serve(problem(503, "unavailable", { "retry-after": "40" }));
    const watched: typeof fetch = async (input, init) => {
      const response = await fetch(input, init);
      setImmediate(() => setImmediate(() => controller.abort(new Error("enough"))));
      return response;
    };
    const client = createClient({ url, token: "t", fetch: watched });
    await expect(client.getSettings(...address, { signal: controller.signal })).rejects.toThrow("enough");
    expect(requests).toHaveLength(1);
  });

  it("limits how long one request may take", async () => {
    const { url } = await serve("silence");
    const error = await failure(
      createClient({ url, token: "t", timeoutMs: 20, retry: false }).getSettings(...address),
    );
    expect(error).toMatchObject({ status: 0, code: "timeout", temporary: true });
  });
});

describe("answers that no broker gives", () => {
  it("an outcome without a value is an error, and so is one that is missing", async () => {
    for (const results of [
      [],
      [{ ref: REF, status: 200 }],
      [{ ref: REF, status: 200, version: 1, setting_id: "id" }],
    ]) {
      const { url } = await serve({ status: 200, body: { results } });
      const client = createClient({ url, token: "t" });
      expect(await failure(client.resolve(REF))).toMatchObject({ status: 0, code: "invalid_answer" });
      expect((await client.resolve([REF]))[0]).toMatchObject({ ref: REF, code: "invalid_answer" });
    }
  });

  it("follows no redirect, which might carry a secret elsewhere", async () => {
    const other = await serve(PAGE);
    const { url } = await serve({ status: 307, headers: { location: other.url }, body: {} });
    const error = await failure(createClient({ url, token: "t" }).put(...address, { value: "v" }));
    expect(error).toMatchObject({ status: 307, code: "redirected" });
    expect(other.requests).toEqual([]);
  });
});

describe("options", () => {
  it("refuses a url that is none, or has more than an address in it; and more than one way to a token", () => {
    for (const url of ["", "coffer", "ftp://x", "http://user:pass@x", "http://x/?q", "http://x/#f"])
      expect(() => createClient({ url, token: "t" })).toThrow(CofferError);
    expect(() => createClient({ url: "http://x", token: "t", tokenFile: "/f" })).toThrow(/one of token/);
    expect(() => createClient({ url: "http://x" } as never)).toThrow(/one of token/);
  });
});
