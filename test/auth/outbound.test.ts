// Fetching from an address that a tenant named, against real servers on loopback, which the tests allow.
import { once } from "node:events";
import { type AddressInfo, type Server, createServer as createTcpServer } from "node:net";
import { createServer as createHttpsServer } from "node:https";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { afterEach, describe, expect, test, vi } from "vitest";
import { OutboundError, type OutboundRules, fetchJson, parseAddress } from "../../src/auth/outbound.ts";
import { certificateFor } from "./certificate.ts";
import { LOOPBACK, answerJson, serverOn } from "./foreign.ts";

const unasked = async (): Promise<never> => {
  throw new Error("no name was to be asked for");
};
const toLoopback: OutboundRules = { allowedPrivate: LOOPBACK, resolve: unasked };
const never = new AbortController().signal;

/** The document, or the flaw. */
async function outcomeOf(url: string, rules = toLoopback, signal = never): Promise<unknown> {
  try {
    return await fetchJson(url, rules, signal);
  } catch (error) {
    if (error instanceof OutboundError) return error.flaw;
    throw error;
  }
}

async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

describe("an address that is refused before anything is asked", () => {
  test.each([
    "https://127.0.0.1/",
    "https://127.255.255.254/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://2130706433/",
    "https://127.1/",
    "https://127.0.0.1./",
    "https://①②⑦.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST/",
    "http://localhost/",
    "http://127.0.0.1/",
    "https://0.0.0.0/",
    "https://10.1.2.3/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.1.1/",
    "https://100.64.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://192.0.0.1/",
    "https://198.18.0.1/",
    "https://192.88.99.1/",
    "https://224.0.0.1/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[::]/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::ffff:8.8.8.8]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[64:ff9b:1::1]/",
    "https://[2002:7f00:1::1]/",
    "https://[2001::1]/",
    "https://[2001:db8::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "http://issuer.example/",
    "http://8.8.8.8/",
    "http://localhost.evil.example/",
    "ftp://issuer.example/",
    "ws://issuer.example/",
    "https://user:password@issuer.example/",
    "https://",
    "//issuer.example/",
    "",
  ])("%s", async (url) => {
    expect(() => parseAddress(url, [])).toThrow(OutboundError);
    expect(await outcomeOf(url, { allowedPrivate: [], resolve: unasked })).toBe("address");
  });

  test.each([
    "https://8.8.8.8/",
    "https://[2606:4700::1111]/",
    "https://172.32.0.1/",
    "https://issuer.example:8443/k?v=1",
  ])("but not %s", (url) => {
    expect(parseAddress(url, []).href).toBe(url);
  });

  test("and an operator's leave for one range is none for another", () => {
    expect(parseAddress("https://10.0.0.1/", ["10.0.0.0/8"]).hostname).toBe("10.0.0.1");
    expect(() => parseAddress("https://10.0.0.1/", ["192.168.0.0/16", "fd00::/8"])).toThrow(OutboundError);
    expect(() => parseAddress("http://10.0.0.1/", ["10.0.0.0/8"])).toThrow(OutboundError);
    expect(parseAddress("http://[::1]:1/", ["::1"]).port).toBe("1");
    expect(() => parseAddress("http://[::1]/", LOOPBACK)).toThrow(OutboundError);
  });
});

const outcome = (addresses: readonly string[], allowedPrivate: readonly string[] = []): Promise<unknown> =>
  outcomeOf("https://issuer.example/", { allowedPrivate, resolve: async () => addresses });

describe("a name that resolves", () => {
  test.each([
    ["to a private address", ["10.0.0.7"]],
    ["to this machine", ["127.0.0.1"]],
    ["to a cloud's metadata", ["169.254.169.254"]],
    ["to a mapped address", ["::ffff:10.0.0.7"]],
    ["to a local address with a zone", ["fe80::1%eth0"]],
    ["to a public address with a zone", ["2606:4700::1111%eth0"]],
    ["to a public address and a private one", ["93.184.216.34", "10.0.0.7"]],
    ["to a private address and a public one", ["fd00::1", "2606:4700::1111"]],
    ["to what is no address", ["localhost"]],
    ["to more addresses than a server has", Array.from({ length: 17 }, (_, n) => `8.8.8.${n}`)],
  ])("%s is not connected to", async (_name, addresses) => {
    expect(await outcome(addresses)).toBe("address");
  });

  test("to nothing is no name", async () => {
    expect(await outcome([])).toBe("name");
  });

  test("to one allowed address and one that is not is not connected to", async () => {
    expect(await outcome(["127.0.0.1", "10.0.0.7"], LOOPBACK)).toBe("address");
  });

  test("is asked for once, and what was checked is what is connected to, by its own certificate", async () => {
    const { cert, key } = certificateFor("issuer.example");
    const authorities = getCACertificates("default");
    setDefaultCACertificates([cert]);
    const server = createHttpsServer({ cert, key }, (_request, response) => response.end('{"keys":[]}'));
    try {
      const port = await listening(server);
      const faces = [["127.0.0.1"], ["10.0.0.7"]];
      const resolve = vi.fn<OutboundRules["resolve"]>(async () => faces.shift() ?? []);
      const rules = { allowedPrivate: LOOPBACK, resolve };
      expect(await outcomeOf(`https://issuer.example:${port}/`, rules)).toEqual({ keys: [] });
      expect(resolve).toHaveBeenCalledExactlyOnceWith("issuer.example", never);
      const other = { ...rules, resolve: async () => ["127.0.0.1"] };
      expect(await outcomeOf(`https://other.example:${port}/`, other)).toBe("connection");
      setDefaultCACertificates(authorities);
      expect(await outcomeOf(`https://issuer.example:${port}/`, other)).toBe("connection");
    } finally {
      setDefaultCACertificates(authorities);
      server.closeAllConnections();
      server.close();
    }
  });
});

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
