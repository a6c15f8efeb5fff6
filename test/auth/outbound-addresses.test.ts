// Which address that a tenant named is connected to: none that is private, by whatever name or spelling it comes.
import { createServer as createHttpsServer } from "node:https";
import { getCACertificates, setDefaultCACertificates } from "node:tls";
import { describe, expect, test, vi } from "vitest";
import { OutboundError, parseAddress } from "../../src/auth/outbound-address.ts";
import type { OutboundRules } from "../../src/auth/outbound.ts";
import { certificateFor } from "./certificate.ts";
import { LOOPBACK } from "./foreign.ts";
import { listening, never, outcomeOf, unasked } from "./outbound-kit.ts";

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
