// The TypeScript client's retries, against a server that answers what a script says. No test waits: time is the clock's.
import { type IncomingMessage, type ServerResponse, createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { CofferError, createClient } from "../../clients/typescript/src/index.ts";
import { failure, fakeClock } from "./typescript-kit.ts";

type Scripted =
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: unknown }
  | "hang up"
  | "silence";

const PAGE = { status: 200, body: { settings: [], next_cursor: null } };
const problem = (status: number, code: string, headers: Record<string, string> = {}): Scripted => ({
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
const UNAVAILABLE = problem(503, "unavailable");

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  await Promise.all(closing.splice(0).map((close) => close()));
});

/** Answers in turn; the last answer again and again. */
async function serve(...script: readonly Scripted[]) {
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

const address = ["project", "p", "secret/Custom/x"] as const;
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

  it("repeats no change whose answer got lost: with a condition, a patch or a deletion it may have been done", async () => {
    const changes = [
      (client: ReturnType<typeof createClient>) => client.put(...address, { value: "v" }, { ifMatch: 1 }),
      (client: ReturnType<typeof createClient>) => client.patch(...address, { description: "d" }),
      (client: ReturnType<typeof createClient>) => client.delete(...address),
    ];
    for (const change of changes) {
      const lost = await serve("hang up");
      const { clock } = fakeClock();
      const error = await failure(change(createClient({ url: lost.url, token: "t", clock })));
      expect(error).toMatchObject({ status: 0, code: "unreachable" });
      expect(lost.requests).toHaveLength(1);
      // Where the broker says that it did nothing, it may.
      const refused = await serve(UNAVAILABLE, { status: 200, body: { value: null, version: 1 } });
      await change(createClient({ url: refused.url, token: "t", clock }));
      expect(refused.requests).toHaveLength(2);
    }
  });

  it("repeats a POST only where it reads: resolve, never rollback or restore", async () => {
    const { clock } = fakeClock();
    const ref = "project/p/secret/Custom/x";
    const outcome = { ref, status: 200, value: "v", version: 1, setting_id: "id" };
    const { url, requests } = await serve(UNAVAILABLE, { status: 200, body: { results: [outcome] } });
    const value = await createClient({ url, token: "t", clock }).resolve(ref);
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
    const ref = "project/p/secret/Custom/x";
    for (const results of [
      [],
      [{ ref, status: 200 }],
      [{ ref, status: 200, version: 1, setting_id: "id" }],
    ]) {
      const { url } = await serve({ status: 200, body: { results } });
      const client = createClient({ url, token: "t" });
      expect(await failure(client.resolve(ref))).toMatchObject({ status: 0, code: "invalid_answer" });
      expect((await client.resolve([ref]))[0]).toMatchObject({ ref, code: "invalid_answer" });
    }
  });

  it("follows no redirect, which might carry a secret elsewhere", async () => {
    const other = await serve(PAGE);
    const { url } = await serve({ status: 307, headers: { location: other.url }, body: {} });
    const error = await failure(createClient({ url, token: "t" }).put(...address, { value: "v" }));
    expect(error).toMatchObject({ status: 307, code: "redirected" });
    expect(other.requests).toEqual([]);
  });

  it("a watch lives through failures that pass, and tells of them", async () => {
    const opened = {
      status: 200,
      headers: { etag: '"1"' },
      body: { path: "p", type: "custom", version: 1, value: "v" },
    };
    const { url } = await serve(UNAVAILABLE, opened, "hang up", {
      ...opened,
      body: { ...opened.body, version: 2 },
    });
    const { clock } = fakeClock();
    const told: Error[] = [];
    const client = createClient({ url, token: "t", clock, retry: false });
    const watched = client.watch("project/p/secret/Custom/x", { onError: (error) => told.push(error) });
    expect((await watched.next()).value).toMatchObject({ version: 1 });
    expect((await watched.next()).value).toMatchObject({ version: 2 });
    await watched.return();
    expect(told).toMatchObject([{ status: 503 }, { code: "unreachable" }]);
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
