// Address ranges that a token may be used from (RFC 4632 notation). Pure.
import { BlockList, isIP } from "node:net";
import { badInput } from "./errors.ts";

type Range = { readonly address: string; readonly bits: number; readonly family: "ipv4" | "ipv6" };

function parseRange(text: string): Range | null {
  const [address = "", bitsText, ...rest] = text.split("/");
  const version = isIP(address);
  if (version === 0 || rest.length > 0 || address.includes("%")) return null;
  const most = version === 4 ? 32 : 128;
  if (bitsText !== undefined && !/^\d{1,3}$/.test(bitsText)) return null;
  const bits = bitsText === undefined ? most : Number(bitsText);
  return bits > most ? null : { address, bits, family: version === 4 ? "ipv4" : "ipv6" };
}

/** True when each text is an address, or a range `address/bits`. */
export function areCidrs(texts: readonly string[]): boolean {
  return texts.every((text) => parseRange(text) !== null);
}

/** @throws BrokerError `invalid_value` unless each text is an address or a range `address/bits` */
export function assertCidrs(texts: readonly string[]): void {
  if (!areCidrs(texts))
    throw badInput("invalid_value", "body", "/allowed_cidrs", "A range is an IP address, or address/bits.");
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const text of ranges) {
    const range = parseRange(text);
    if (range !== null) list.addSubnet(range.address, range.bits, range.family);
  }
  return list;
}

/** True when `ip` lies in one of the ranges; with no range given, always. IPv4-mapped IPv6 counts as IPv4. */
export function isWithin(ip: string | null, ranges: readonly string[]): boolean {
  if (ranges.length === 0) return true;
  if (ip === null) return false;
  const plain = ip.toLowerCase().startsWith("::ffff:") && isIP(ip.slice(7)) === 4 ? ip.slice(7) : ip;
  const version = isIP(plain);
  return version !== 0 && listOf(ranges).check(plain, version === 4 ? "ipv4" : "ipv6");
}

/** True when every inner range lies inside some outer one; no outer range means no limit. */
export function cidrsWithin(inner: readonly string[], outer: readonly string[]): boolean {
  if (outer.length === 0) return true;
  if (inner.length === 0) return false;
  return inner.every((text) => {
    const range = parseRange(text);
    if (range === null) return false;
    return outer.some((held) => {
      const around = parseRange(held);
      if (around === null || around.family !== range.family || around.bits > range.bits) return false;
      return listOf([held]).check(range.address, range.family);
    });
  });
}
