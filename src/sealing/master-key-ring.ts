// The master keys that this process was given: the one that the database names makes all that is new, the other (while
// one is being replaced) is accepted beside it. Which one is named is found out from the database, never remembered as
// true: whoever makes something says which key-check value they read, and a key that is not here makes nothing.
import { timingSafeEqual } from "node:crypto";
import { unavailable } from "../domain/errors.ts";
import { EnvelopeError } from "./envelope.ts";
import type { MasterKeys } from "./master-key.ts";

export type MasterKeyRing = {
  /** What rows are signed under: the key that was followed last. */
  current(): MasterKeys;
  /** All there are, the current one first. */
  all(): readonly MasterKeys[];
  /**
   * The key that a key-check value names; null (nothing is named yet) is the current one.
   * @throws BrokerError `unavailable` when this process was not given it
   */
  named(keyCheck: Uint8Array | null): MasterKeys;
  /**
   * From now on the named key is the current one. Only for who holds the value in the database (`heldKeyCheck`): a
   * value that was read without holding it may be an old one.
   * @throws BrokerError as `named`
   */
  follow(keyCheck: Uint8Array): void;
  has(keyCheck: Uint8Array): boolean;
  /** The key that is to take the other one's place. */
  readonly next: MasterKeys | null;
};

/** @throws Error when both are the same key */
export function createMasterKeyRing(own: MasterKeys, next: MasterKeys | null = null): MasterKeyRing {
  if (next !== null && isCheckOf(next, own.keyCheck))
    throw new Error("The next master key is the same as the one that it is to replace.");
  const keys = next === null ? [own] : [own, next];
  let current = own;
  let ordered: readonly MasterKeys[] = keys;

  function named(keyCheck: Uint8Array | null): MasterKeys {
    if (keyCheck === null) return current;
    const found = keys.find((each) => isCheckOf(each, keyCheck));
    if (found === undefined)
      throw unavailable("The master key was replaced, and this replica was not given the new one.");
    return found;
  }

  return {
    current: () => current,
    all: () => ordered,
    named,
    follow(keyCheck) {
      const followed = named(keyCheck);
      if (followed === current) return;
      current = followed;
      ordered = [current, ...keys.filter((each) => each !== current)];
    },
    has: (keyCheck) => keys.some((each) => isCheckOf(each, keyCheck)),
    next,
  };
}

/**
 * What was sealed under one of the keys.
 * @throws EnvelopeError, of the current key, when none opens it
 */
export function openUnderAny(
  ring: MasterKeyRing,
  open: (keys: MasterKeys) => Buffer,
): { readonly bytes: Buffer; readonly under: MasterKeys } {
  let first: EnvelopeError | null = null;
  for (const under of ring.all()) {
    try {
      return { bytes: open(under), under };
    } catch (error) {
      if (!(error instanceof EnvelopeError)) throw error;
      first ??= error;
    }
  }
  throw first ?? new Error("a ring has a key");
}

function isCheckOf({ keyCheck: own }: MasterKeys, keyCheck: Uint8Array): boolean {
  return own.length === keyCheck.length && timingSafeEqual(own, keyCheck);
}
