// What is taken from an address that a tenant named: JSON of a bounded size in bounded time, without a redirect or a
// proxy; against real servers on loopback, which the tests allow.
import { createServer as createTcpServer } from "node:net";
import { afterEach, describe, expect, test, vi } from "vitest";
import { type OutboundRules, fetchJson } from "../../src/auth/outbound.ts";
import { answerJson, serverOn } from "./foreign.ts";
import { listening, never, outcomeOf, toLoopback } from "./outbound-kit.ts";

/** JSON of so many bytes. */
const document = (bytes: number): string => JSON.stringify({ pad: "x".repeat(bytes - 10) });

describe("an answer", () => {
  test("that is JSON is the document, and the request says nothing of us", async () => {
    const headers: unknown[] = [];
    await using server = await serverOn((request, response) => {
      headers.push(request.headers);
      response.end('{"keys":[]}');
    });
    expect(await outcomeOf(server.url)).toEqual({ keys: [] });
    expect(await outcomeOf(server.url.replace("127.0.0.1", "localhost"))).toEqual({ keys: [] });
    expect(headers[0]).toEqual({
      accept: "application/json, application/jwk-set+json",
      "user-agent": "coffer",
      host: `127.0.0.1:${server.port}`,
      connection: "close",
    });
  });

  test.each([301, 302, 303, 307, 308])("that redirects (%i) is not followed", async (status) => {
    await using target = await serverOn(answerJson(() => ({ keys: [] })));
    await using server = await serverOn((_request, response) => {
      response.writeHead(status, { location: target.url }).end('{"keys":[]}');
    });
    expect(await outcomeOf(server.url)).toBe("status");
    expect(target.requests()).toBe(0);
  });

  test.each([201, 204, 206, 304, 400, 401, 404, 429, 500, 503])("of status %i is none", async (status) => {
    await using server = await serverOn((_request, response) => {
      response.writeHead(status).end('{"keys":[]}');
    });
    expect(await outcomeOf(server.url)).toBe("status");
  });

  test("of 10 MB is cut off as it arrives, whether its length was told or not", async () => {
    const chunk = Buffer.alloc(64 * 1_024, " ");
    for (const head of [{}, { "content-length": 160 * chunk.length }]) {
      let sent = 0;
      const gone = Promise.withResolvers<void>();
      await using server = await serverOn((_request, response) => {
        response.on("close", () => gone.resolve()).on("error", () => undefined);
        response.writeHead(200, head);
        const more = (): void => {
          while (sent < 160 && !response.destroyed) {
            sent += 1;
            if (!response.write(chunk)) return void response.once("drain", more);
          }
        };
        more();
      });
      expect(await outcomeOf(server.url)).toBe("size");
      await gone.promise;
      expect(sent).toBeLessThan(160);
    }
  });

  test("of just the size that is allowed is read, and one byte more is not", async () => {
    await using server = await serverOn((request, response) => {
      response.end(document(Number(request.url?.slice(1))));
    });
    const base = new URL("/", server.url).href;
    expect(document(262_144)).toHaveLength(262_144);
    expect(await outcomeOf(`${base}262144`)).toHaveProperty("pad");
    expect(await outcomeOf(`${base}262145`)).toBe("size");
  });

  test.each([
    ["HTML", "<!doctype html><title>keys</title>"],
    ["nothing", ""],
    ["cut short", '{"keys":['],
    ["not UTF-8", Buffer.from([0x22, 0xff, 0x22])],
    ["compressed unasked", Buffer.from([0x1f, 0x8b, 0x08])],
  ])("that is %s is none, and is not quoted", async (_name, body) => {
    await using server = await serverOn((_request, response) => response.end(body));
    await expect(fetchJson(server.url, toLoopback, never)).rejects.toThrow(
      /^An address named by a tenant could not be read: content\.$/,
    );
  });

  test("that closes in the middle of its body is none", async () => {
    await using server = await serverOn((_request, response) => {
      response.writeHead(200, { "content-length": 100 });
      response.write('{"keys":[]}', () => response.destroy());
    });
    expect(await outcomeOf(server.url)).toBe("connection");
  });

  test("that closes at once is none", async () => {
    await using server = await serverOn((request) => request.socket.destroy());
    expect(await outcomeOf(server.url)).toBe("connection");
  });

  test.each([
    ["endless headers", `HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(10_000)}`],
    ["another protocol", "SSH-2.0-OpenSSH_9.6\r\n"],
    ["a change of protocol", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"],
  ])("that is %s is none", async (_name, bytes) => {
    const server = createTcpServer((socket) => {
      socket.on("error", () => undefined).write(bytes);
    });
    const port = await listening(server);
    expect(await outcomeOf(`http://127.0.0.1:${port}/`)).toBe("connection");
    server.close();
  });

  test("of nobody is none", async () => {
    const server = await serverOn(() => undefined);
    await server.stop();
    expect(await outcomeOf(server.url)).toBe("connection");
  });
});

describe("time is up", () => {
  let deadline = new AbortController();
  afterEach(() => {
    deadline = new AbortController();
  });

  test("for a server that says nothing", async () => {
    await using server = await serverOn(() => undefined);
    const outcome = outcomeOf(server.url, toLoopback, deadline.signal);
    await server.asked();
    deadline.abort();
    expect(await outcome).toBe("time");
  });

  test("for a body that drips, however steadily", async () => {
    const gone = Promise.withResolvers<void>();
    let drops = 0;
    await using server = await serverOn((_request, response) => {
      response.on("close", () => gone.resolve());
      const drip = (): void => {
        drops += 1;
        if (drops === 50) deadline.abort();
        if (!response.destroyed) response.write(" ", () => setImmediate(drip));
      };
      drip();
    });
    expect(await outcomeOf(server.url, toLoopback, deadline.signal)).toBe("time");
    await gone.promise;
  });

  test("for headers that never end", async () => {
    const server = createTcpServer((socket) => {
      socket.on("error", () => undefined).write("HTTP/1.1 200 OK\r\nx: ", () => deadline.abort());
    });
    const port = await listening(server);
    expect(await outcomeOf(`http://127.0.0.1:${port}/`, toLoopback, deadline.signal)).toBe("time");
    server.close();
  });

  test("for a name that is not resolved in time", async () => {
    const resolve: OutboundRules["resolve"] = (_name, signal) =>
      new Promise((done) => {
        signal.addEventListener("abort", () => done([]));
        deadline.abort();
      });
    const rules = { allowedPrivate: [], resolve };
    expect(await outcomeOf("https://issuer.example/", rules, deadline.signal)).toBe("time");
  });
});

test("a proxy of the environment is not used", async () => {
  await using proxy = await serverOn(answerJson(() => ({ keys: ["proxied"] })));
  await using server = await serverOn(answerJson(() => ({ keys: [] })));
  for (const name of ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"])
    vi.stubEnv(name, new URL("/", proxy.url).href);
  vi.stubEnv("NODE_USE_ENV_PROXY", "1");
  expect(await outcomeOf(server.url)).toEqual({ keys: [] });
  expect(proxy.requests()).toBe(0);
});
