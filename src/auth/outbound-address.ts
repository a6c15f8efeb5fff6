// Which addresses a tenant may name: public ones, and those that the operator allowed.
import { isIP } from "node:net";
import { isWithin } from "../domain/cidr.ts";

export type OutboundFlaw = "address" | "name" | "connection" | "time" | "status" | "size" | "content";

/** Why an address gave nothing; one word, for the log. */
export class OutboundError extends Error {
  readonly flaw: OutboundFlaw;
  constructor(flaw: OutboundFlaw) {
    super(`An address named by a tenant could not be read: ${flaw}.`);
    this.name = "OutboundError";
    this.flaw = flaw;
  }
}

const URL_LENGTH_MAX = 2_048;
const LOOPBACK = ["127.0.0.0/8", "::1/128"];

/** IPv4 ranges that are not of the public internet (IANA's registry of special purposes, and multicast). */
const SPECIAL_4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
];
/**
 * IPv6 is public in 2000::/3 alone, which leaves out loopback, mapped and translated IPv4 (::ffff:0:0/96, 64:ff9b::/96),
 * local and multicast addresses; and in it, these are not: they lead elsewhere (Teredo, 6to4) or nowhere.
 */
const PUBLIC_6 = ["2000::/3"];
const SPECIAL_6 = ["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

function isPublic(ip: string): boolean {
  if (isIP(ip) === 4) return !isWithin(ip, SPECIAL_4);
  return isIP(ip) === 6 && !ip.includes("%") && isWithin(ip, PUBLIC_6) && !isWithin(ip, SPECIAL_6);
}

/** An empty list allows nothing here, whereas for `isWithin` it is no limit. */
export function mayConnect(ip: string, allowedPrivate: readonly string[]): boolean {
  return isPublic(ip) || (allowedPrivate.length > 0 && isWithin(ip, allowedPrivate));
}

export const hostOf = ({ hostname }: URL): string => hostname.replace(/^\[(.*)\]$/, "$1");

/** What a host stands for whoever is asked: an IP address for itself, `localhost` for this machine (RFC 6761). */
export function fixedAddresses(host: string): readonly string[] | null {
  if (host === "localhost") return ["127.0.0.1", "::1"];
  return isIP(host) === 0 ? null : [host];
}

/**
 * The URL, when it is one that could be asked: https, or http to this very machine; no user in it.
 * An IP address in any notation is judged here already, a name only when it is asked.
 * @throws OutboundError `address`
 */
export function parseAddress(text: string, allowedPrivate: readonly string[]): URL {
  const url = text.length <= URL_LENGTH_MAX ? URL.parse(text) : null;
  if (url === null) throw new OutboundError("address");
  const fixed = fixedAddresses(hostOf(url));
  const isLoopback = fixed?.every((ip) => isWithin(ip, LOOPBACK)) ?? false;
  const isSafe = url.protocol === "https:" || (url.protocol === "http:" && isLoopback);
  if (!isSafe || url.username !== "" || url.password !== "") throw new OutboundError("address");
  if (fixed?.some((ip) => mayConnect(ip, allowedPrivate)) === false) throw new OutboundError("address");
  return url;
}
