// What the tests of fetching from a tenant's addresses share: loopback allowed, no name asked for, and what came of it.
import { once } from "node:events";
import type { AddressInfo, Server } from "node:net";
import { OutboundError } from "../../src/auth/outbound-address.ts";
import { type OutboundRules, fetchJson } from "../../src/auth/outbound.ts";
import { LOOPBACK } from "./foreign.ts";

export const unasked = async (): Promise<never> => {
  throw new Error("no name was to be asked for");
};
export const toLoopback: OutboundRules = { allowedPrivate: LOOPBACK, resolve: unasked };
export const never = new AbortController().signal;

/** The document, or the flaw. */
export async function outcomeOf(url: string, rules = toLoopback, signal = never): Promise<unknown> {
  try {
    return await fetchJson(url, rules, signal);
  } catch (error) {
    if (error instanceof OutboundError) return error.flaw;
    throw error;
  }
}

export async function listening(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}
