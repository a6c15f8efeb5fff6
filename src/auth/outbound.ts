// Asking an address that a tenant named, without lending the tenant our place in the network: only public addresses,
// and those that the operator allowed; what is connected to is what was checked, however the name resolves meanwhile.
// No redirect is followed, no proxy, cookie or credential used, and size and time are bounded.
// An answer's content reaches nobody but the caller, and no error quotes it.
import { Resolver } from "node:dns/promises";
import type { IncomingMessage, RequestOptions } from "node:http";
import https from "node:https";
import { type LookupFunction, isIP } from "node:net";
import { OutboundError, fixedAddresses, hostOf, mayConnect, parseAddress } from "./outbound-address.ts";

/** The addresses of a name; none when it has none. It ends when the signal says so. */
export type Resolve = (name: string, signal: AbortSignal) => Promise<readonly string[]>;

export type OutboundRules = {
  /** Ranges (CIDR) that may be connected to although they are not public; empty: none. */
  readonly allowedPrivate: readonly string[];
  readonly resolve: Resolve;
};

const BODY_BYTES_MAX = 256 * 1_024;
const REPLY_BYTES_MAX = 4_096;
const ADDRESSES_MAX = 16;

/**
 * Every address of a name has to be one that may be connected to: of a name with two faces, neither is trusted.
 * @throws OutboundError `address` or `name`
 */
async function addressesOf(url: URL, rules: OutboundRules, signal: AbortSignal): Promise<readonly string[]> {
  const host = hostOf(url);
  const may = (ip: string): boolean => mayConnect(ip, rules.allowedPrivate);
  const fixed = fixedAddresses(host);
  if (fixed !== null) return fixed.filter(may);
  const addresses = await rules.resolve(host, signal);
  if (addresses.length === 0) throw new OutboundError("name");
  if (addresses.length > ADDRESSES_MAX || !addresses.every(may)) throw new OutboundError("address");
  return addresses;
}

/**
 * Asks DNS itself. The system's own way (getaddrinfo) cannot be called off and holds a thread that others wait for:
 * two names whose servers never answer would stop every look-up of the process. So /etc/hosts is not read.
 */
export const askDns: Resolve = async (name, signal) => {
  const resolver = new Resolver({ timeout: 1_000, tries: 2 });
  signal.addEventListener("abort", () => resolver.cancel(), { once: true });
  const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
  return answers.flatMap((answer) => (answer.status === "fulfilled" ? answer.value : []));
};

/**
 * The JSON document at an address that a tenant named.
 * @param signal ends it, whatever is under way then: a look-up, a connection, a body that drips
 * @throws OutboundError
 */
export async function fetchJson(text: string, rules: OutboundRules, signal: AbortSignal): Promise<unknown> {
  try {
    const url = parseAddress(text, rules.allowedPrivate);
    const addresses = await addressesOf(url, rules, signal);
    signal.throwIfAborted();
    const response = await ask(url, addresses, signal);
    if (response.statusCode !== 200) {
      response.destroy();
      throw new OutboundError("status");
    }
    return parse(await bodyOf(response));
  } catch (error) {
    if (signal.aborted) throw new OutboundError("time");
    throw error instanceof OutboundError ? error : new OutboundError("connection");
  }
}

export type Message = { readonly headers: Readonly<Record<string, string>>; readonly body: string };

/**
 * Posts a message to an address that a tenant named, by the same rules; answers the status, whatever it is, and the
 * beginning of what was said.
 * @throws OutboundError
 */
export async function post(
  text: string,
  message: Message,
  rules: OutboundRules,
  signal: AbortSignal,
): Promise<{ readonly status: number; readonly body: string }> {
  try {
    const url = parseAddress(text, rules.allowedPrivate);
    const addresses = await addressesOf(url, rules, signal);
    signal.throwIfAborted();
    const response = await ask(url, addresses, signal, message);
    return { status: response.statusCode ?? 0, body: await beginningOf(response) };
  } catch (error) {
    if (signal.aborted) throw new OutboundError("time");
    throw error instanceof OutboundError ? error : new OutboundError("connection");
  }
}

async function ask(
  url: URL,
  addresses: readonly string[],
  signal: AbortSignal,
  message: Message | null = null,
): Promise<IncomingMessage> {
  const pinned = addresses.map((address) => ({ address, family: isIP(address) }));
  const lookup: LookupFunction = (_host, options, done) => {
    const [first] = pinned;
    if (options.all === true || first === undefined) done(null, pinned);
    else done(null, first.address, first.family);
  };
  const options: RequestOptions & { readonly rejectUnauthorized: true } = {
    signal,
    lookup,
    // A connection of its own, closed afterwards: no tenant's request travels on another's.
    agent: false,
    maxHeaderSize: 16_384,
    ...(message === null ? {} : { method: "POST" }),
    headers: {
      accept: "application/json, application/jwk-set+json",
      "user-agent": "coffer",
      ...message?.headers,
    },
    rejectUnauthorized: true,
  };
  // Loaded where it is needed: see http/status-codes.ts.
  const { request: send } = url.protocol === "https:" ? https : await import("node:http");
  return new Promise((resolve, reject) => {
    const request = send(url, options);
    request.on("response", resolve);
    request.on("error", reject);
    // An answer that is none, such as a change of protocol, ends without an error.
    request.on("close", () => reject(new OutboundError("connection")));
    request.end(message?.body);
  });
}

/** As much of an answer as anything is made of; the rest is not waited for. */
async function beginningOf(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= REPLY_BYTES_MAX) break;
  }
  return Buffer.concat(chunks).subarray(0, REPLY_BYTES_MAX).toString("utf8");
}

async function bodyOf(response: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  // Leaving the loop early closes the connection.
  for await (const chunk of response as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > BODY_BYTES_MAX) throw new OutboundError("size");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The parser's own error would quote what it read. */
function parse(body: Buffer): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body)) as unknown;
  } catch {
    throw new OutboundError("content");
  }
}
