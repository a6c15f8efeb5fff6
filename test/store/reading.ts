// A worker that reads an owner's settings ahead, for the tests of what the store keeps of them.
import type { OwnerKey, PresentedToken } from "../../src/domain/ports.ts";
import type pg from "pg";
import { onTestFinished } from "vitest";
import type { Ahead, FoundAhead } from "../../src/domain/read-ahead.ts";
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

/** Three readings: the first is kept, the others are of what is kept. */
export async function warm(
  f: { readonly store: Pick<Fixture["store"], "readAhead"> },
  ahead: () => Ahead,
): Promise<void> {
  for (let each = 0; each < 3; each++) await f.store.readAhead(ahead());
}

/** A world whose settings are kept by the store. */
export async function keptWorld(f: Fixture) {
  const world = await readingWorld(f);
  for (const each of PATHS) await f.setting(world.key, each);
  const ahead = (): Ahead => readOf(world.presented, world.key, "decrypt", f.time.now);
  const pageNow = async () => (await f.store.readAhead(ahead()))?.page;
  await warm(f, ahead);
  return { ...world, ahead, pageNow };
}

export const told = (found: FoundAhead | null) => ({
  isAdmitted: found?.admission !== null,
  standing: found?.admission?.standing,
  rows: found?.page?.rows,
  subjects: found?.recorded?.settings,
});

/** What the store says now, and what one does that has never read anything. */
export async function bothOf(f: Fixture, ahead: () => Ahead) {
  const fresh = f.open(1);
  try {
    return {
      kept: told(await f.store.readAhead(ahead())),
      oracle: told(await fresh.store.readAhead(ahead())),
    };
  } finally {
    await fresh.close();
  }
}

/** A connection that is given up when the test ends. */
export async function connected(f: Fixture): Promise<pg.PoolClient> {
  const one = await f.driver.connect();
  onTestFinished(() => one.release(true));
  return one;
}
