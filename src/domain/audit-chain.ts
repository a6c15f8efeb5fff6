// The audit log as a chain of seals: what a seal says, and what the core needs of whoever hashes, signs and keeps them.
// A seal covers the events of a range of positions and the seal before it, and is signed with a key that the database
// does not hold: whoever changes, removes or moves an event, or a seal, can make no seal that says so.
import type { AuditEvent } from "./audit.ts";

/**
 * One event under a seal. The position is the event's own; the id tells when it was made. The hash is text, a character
 * a byte: thousands of them wait to be sealed, and a Buffer is several times as large.
 */
export type Leaf = { readonly position: number; readonly id: string; readonly hash: string };

/** What is signed. Seals are numbered from 1 without a gap, and so are the positions that they cover. */
export type SealBody = {
  readonly number: number;
  /** The hash of the seal before; null for the first. */
  readonly previous: Uint8Array | null;
  readonly first_position: number;
  /** One less than `first_position` for a seal of no events, which says that none was removed up to its time. */
  readonly last_position: number;
  readonly count: number;
  /** Over the packed leaves. */
  readonly events_hash: Uint8Array;
  /** Events from before this time may be gone by retention; null: none may. */
  readonly kept_from: Date | null;
  readonly sealed_at: Date;
  /** Which key signed. */
  readonly key_id: string;
};
export type Seal = SealBody & {
  /** Packed; null once all its events are gone by retention. */
  readonly leaves: Uint8Array | null;
  readonly hash: Uint8Array;
  readonly signature: Uint8Array;
};
export type PlacedEvent = { readonly position: number; readonly event: AuditEvent };
/** A committed event's position, and which event it is. */
export type Place = Pick<Leaf, "position" | "id">;

/** Hashes and judges; needs the public key alone. */
export type SealJudge = {
  /** As a leaf has it. */
  hashEvent(event: AuditEvent): string;
  /** Whether the key's holder signed this seal, leaves included, where there are any. */
  isGenuine(seal: Seal): boolean;
  isGenuineEnd(end: ExportEnd, signature: Uint8Array): boolean;
};
/** What an export ends with: how far it goes. Without it the file was cut off. */
export type ExportEnd = {
  readonly exported_at: Date;
  readonly head_number: number;
  readonly head_hash: Uint8Array | null;
  readonly seals: number;
  readonly events: number;
};
/** Signs as well. */
export type SealMaker = SealJudge & {
  readonly publicKey: string;
  signEnd(end: ExportEnd): Uint8Array;
  seal(
    base: Pick<SealBody, "number" | "previous" | "first_position" | "kept_from" | "sealed_at">,
    leaves: readonly Leaf[],
  ): Seal;
};

/** Where seals rest; store/audit-seals.ts. */
export type SealStore = {
  /** The newest seal, the last position given, and whether events wait for one; and what has the known one's number. */
  state(known: Seal | null): Promise<SealState>;
  /** Positions that this process gives from now on come after this one, whatever the database says. */
  goOnAfter(position: number): void;
  /** Gives positions to committed events that have none; answers whether there may be more of them. */
  place(): Promise<boolean>;
  /** The next positions after one, in order, up to a number of them. */
  placesAfter(position: number, limit: number): Promise<readonly Place[]>;
  /** The events at these positions, the first of them at least: together they may be too much to hold. */
  eventsAt(positions: readonly number[]): Promise<readonly PlacedEvent[]>;
  /** Adds the seal that `make` makes of the newest one; null adds none. Null, too, while another replica adds one. */
  append(
    known: Seal | null,
    make: (head: Seal | null, keyCheck: KeyCheck) => Promise<Seal | null>,
  ): Promise<Seal | null>;
  /** Makes the partitions of that many months to come, where they are missing. */
  prepareMonths(ahead: number): Promise<number>;
  /** Whether this role owns the log, and so may drop a month of it. */
  mayDrop(): Promise<boolean>;
  /** Takes the leaves out of seals all of whose events retention has taken, a number of them; answers how many. */
  forgetLeaves(limit: number): Promise<number>;
};
export type SealState = {
  /** The very one that is known, where it is the same in every column: then its leaves are not fetched. */
  readonly head: Seal | null;
  /** The hash of the seal with the known one's number. */
  readonly known: Uint8Array | null;
  readonly tail: number;
  readonly waiting: boolean;
  readonly keyCheck: KeyCheck;
};
/** Names the master key in force; null before the first start. */
type KeyCheck = Uint8Array | null;
export type MakeSeal = (head: Seal | null) => Promise<Seal | null>;

export const LEAF_BYTES = 56;
const ID_START = 8;
const HASH_START = 24;

/** 56 bytes a leaf: its position, its id, its hash. */
export function packLeaves(leaves: readonly Leaf[]): Buffer {
  const packed = Buffer.alloc(leaves.length * LEAF_BYTES);
  leaves.forEach(({ position, id, hash }, index) => {
    const start = index * LEAF_BYTES;
    packed.writeBigInt64BE(BigInt(position), start);
    packed.write(id.replaceAll("-", ""), start + ID_START, "hex");
    packed.write(hash, start + HASH_START, "latin1");
  });
  return packed;
}

/** What is no whole number of leaves is left out; the seal's hash does not fit it then. */
export function unpackLeaves(packed: Uint8Array): Leaf[] {
  const bytes = Buffer.from(packed);
  return Array.from({ length: Math.floor(bytes.length / LEAF_BYTES) }, (_, index) => {
    const leaf = bytes.subarray(index * LEAF_BYTES, (index + 1) * LEAF_BYTES);
    const id = leaf.toString("hex", ID_START, HASH_START);
    return {
      position: Number(leaf.readBigInt64BE(0)),
      id: `${id.slice(0, 8)}-${id.slice(8, 12)}-${id.slice(12, 16)}-${id.slice(16, 20)}-${id.slice(20)}`,
      hash: leaf.toString("latin1", HASH_START),
    };
  });
}

/** When an event was made, as its id tells: the first 48 bits of a UUIDv7 are milliseconds. */
export function timeOfId(id: string): Date {
  return new Date(Number.parseInt(id.replaceAll("-", "").slice(0, 12), 16));
}

export function sameBytes(one: Uint8Array | null, other: Uint8Array | null): boolean {
  if (one === null || other === null) return one === other;
  return Buffer.compare(one, other) === 0;
}
