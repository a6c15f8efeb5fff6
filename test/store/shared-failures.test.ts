// What becomes of the members of a shared transaction when a statement of theirs fails: each is answered, and nothing is
// done twice.
import { expect, test } from "vitest";
import { inTime } from "../harness/until.ts";
import { openFixture, path } from "./fixture.ts";

const [A, B] = [path("connect/S3/a"), path("connect/S3/b")];
/** More than the statement's integer takes: it fails for what is in it. */
const TOO_MANY = 3_000_000_000;

test("a member whose call went well is answered, too, when a mate's call fails after it in the same round", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  let runs = 0;
  const failing = f.store.transact(
    async (tx) => {
      await tx.lockPath(key, A);
      return tx.countKept(key, "settings", TOO_MANY);
    },
    { place: { owner: key, path: A } },
  );
  const fine = f.store.transact(
    async (tx) => {
      runs += 1;
      const last = await tx.lockPath(key, B);
      await tx.ownerManagers(key);
      await tx.setLastVersion(key, B, last + 1);
      return "done";
    },
    { place: { owner: key, path: B } },
  );
  await expect(inTime(() => "the failing one's answer", failing, 20)).rejects.toThrow("The database refused");
  expect(await inTime(() => "its mate's answer", fine, 20)).toBe("done");
  // Once among mates, and once alone: only that was committed.
  expect(runs).toBe(2);
  expect(await f.store.reader.lastVersion(key, B)).toBe(1);
  expect(await f.store.reader.lastVersion(key, A)).toBe(0);
});
