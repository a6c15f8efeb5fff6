// A worker that reads an owner's settings ahead, for the tests of what the store keeps of them.
import type { OwnerKey, PresentedToken } from "../../src/domain/ports.ts";
import type { Ahead } from "../../src/domain/read-ahead.ts";
import { type Fixture, event, newId, path, prefix } from "./fixture.ts";

const UNDER = prefix("connect/S3");
export const PATHS: readonly string[] = Array.from({ length: 6 }, (_, index) => `connect/S3/${index}`);

export async function readingWorld(f: Fixture) {
  const { key } = await f.organization();
  const reader = await f.principal();
  await f.member(key, reader.id, "write");
  const { id: tokenId, hash } = await f.token(reader.id);
  return { key, reader, tokenId, presented: { kind: "api", hash } satisfies PresentedToken };
}

export function readOf(
  presented: PresentedToken,
  key: OwnerKey,
  action: Ahead["action"],
  now: Date,
  at?: string,
): Ahead {
  const select: Ahead["select"] =
    at === undefined ? { kind: "under", prefix: UNDER } : { kind: "at", path: path(at), match: "exact" };
  const worded = event(null, { action, path: at ?? UNDER, request_id: newId(), at: now });
  const { owner_type, owner_id } = key;
  const owner = { owner_type, owner_id };
  return {
    presented,
    owner,
    select,
    action,
    strict: at !== undefined,
    limit: 1000,
    event: { ...worded, ...owner },
  };
}

/** Three readings: the second is kept, the third is of what is kept. */
export async function warm(f: Fixture, ahead: () => Ahead): Promise<void> {
  for (let each = 0; each < 3; each++) await f.store.readAhead(ahead());
}
