// While a master key is being replaced: what is under either key is accepted, what is made is under the named one.
import { randomBytes, randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import type { ManagerName } from "../../src/domain/setting.ts";
import { checkMasterKeys } from "../../src/sealing/key-check.ts";
import { createKeks } from "../../src/sealing/kek.ts";
import type { KeyGuard } from "../../src/sealing/key-guard.ts";
import { createMasterKeys } from "../../src/sealing/master-key.ts";
import { createMasterKeyRing } from "../../src/sealing/master-key-ring.ts";
import { createSigningKeySealer } from "../../src/sealing/signing-key-sealer.ts";
import { memoryKeys, ownerKey, permit, replica, testClock, written } from "./fixture.ts";
import { createRowMac } from "../../src/sealing/row-mac.ts";

const OLD = randomBytes(32);
const NEW = randomBytes(32);
const keysOf = (raw: Buffer) => createMasterKeys(Buffer.from(raw));
const ringOf = (own: Buffer, next: Buffer | null = null) =>
  createMasterKeyRing(keysOf(own), next === null ? null : keysOf(next));
const checkOf = (raw: Buffer): Uint8Array => keysOf(raw).keyCheck;

describe("rows", () => {
  test("of either key are genuine to who has both, and are signed under the one that is named", async () => {
    const both = replica(memoryKeys(), { master: OLD, next: NEW });
    const one = await written(both, ownerKey(), "a");
    both.vault.signUnder(checkOf(NEW));
    const other = await written(both, ownerKey(), "b");
    expect(both.vault.marks(one)).toEqual({ setting: "earlier", version: "earlier" });
    expect(both.vault.marks(other)).toEqual({ setting: "current", version: "current" });
    expect([one, other].map((row) => both.vault.isGenuine(row))).toEqual([true, true]);
    expect((await both.vault.open(permit, [one, other])).map(({ kind }) => kind)).toEqual([
      "opened",
      "opened",
    ]);
    const [oldAlone, newAlone] = [
      replica(both.keyStore, { master: OLD }),
      replica(both.keyStore, { master: NEW }),
    ];
    expect([one, other].map((row) => oldAlone.vault.isGenuine(row))).toEqual([true, false]);
    expect([one, other].map((row) => newAlone.vault.isGenuine(row))).toEqual([false, true]);
  });

  test("are signed by nobody who was not given the named key", () => {
    const { vault } = replica(memoryKeys(), { master: OLD });
    expect(() => vault.signUnder(checkOf(NEW))).toThrow("not given the new one");
  });
});

describe("key-encryption keys", () => {
  test("made under the earlier key open to who has both, and are put under the named one with the same bytes", async () => {
    const keyStore = memoryKeys();
    const owner = ownerKey();
    const { id, key } = await replica(keyStore, { master: OLD }).keyring.currentDataKey(owner, "local");
    keyStore.epochNow.key_check = checkOf(NEW);
    const both = replica(keyStore, { master: OLD, next: NEW });
    expect(await both.keyring.resealKeks()).toBe(1);
    expect(await both.keyring.resealKeks()).toBe(0);
    const alone = replica(keyStore, { master: NEW });
    const outcome = (await alone.keyring.dataKeys(owner.tenant_id, [id])).get(id);
    expect(outcome?.kind === "key" && outcome.key.equals(key)).toBe(true);
    const late = replica(keyStore, { master: OLD });
    expect((await late.keyring.dataKeys(owner.tenant_id, [id])).get(id)?.kind).toBe("failed");
  });

  test("of a new owner are under the key that the database names, also where that is not the process's own", async () => {
    const keyStore = memoryKeys();
    keyStore.epochNow.key_check = checkOf(NEW);
    const { id } = await replica(keyStore, { master: OLD, next: NEW }).keyring.currentDataKey(
      ownerKey("organization"),
      "local",
    );
    const [record] = keyStore.data.values();
    const alone = replica(keyStore, { master: NEW });
    const outcome = await alone.keyring.dataKeys(record?.tenant_id ?? "", [id]);
    expect(outcome.get(id)?.kind).toBe("key");
    await expect(
      replica(keyStore, { master: OLD }).keyring.currentDataKey(ownerKey(), "local"),
    ).rejects.toThrow("not given the new one");
  });

  test("that were confirmed in a cloud under a key that was replaced meanwhile get a successor", async () => {
    const keyStore = memoryKeys();
    const [earlier, named] = [keysOf(OLD), keysOf(NEW)];
    keyStore.epochNow.key_check = named.keyCheck;
    const unused = () => Promise.reject(new Error("nobody recovers it"));
    const guard: KeyGuard = {
      protect: async () => ({ sealed: null, secret: { address: { resource: "r" }, version_id: null } }),
      // The first secret was written by a racer, before the key was replaced.
      confirm: async ({ generation }, under) => ({
        version_id: "1",
        under: generation === 1 ? earlier : under,
      }),
      recover: unused,
    };
    const guards = new Map<ManagerName, KeyGuard>([["gcp", guard]]);
    const masterKeys = createMasterKeyRing(earlier, named);
    const rowMac = createRowMac(masterKeys);
    const keks = createKeks({ keyStore, guards, rowMac, masterKeys, clock: testClock(), newId: randomUUID });
    const { id } = await keks.current(randomUUID(), "gcp");
    expect(keyStore.keks.get(id)).toMatchObject({ generation: 2, secret: { version_id: "1" } });
    const first = [...keyStore.keks.values()].find(({ generation }) => generation === 1);
    expect(first?.secret?.version_id).toBeNull();
  });
});

test("a signing key of the earlier key opens, and is sealed anew once", () => {
  const bytes = randomBytes(48);
  const sealed = createSigningKeySealer(ringOf(OLD)).seal("k", bytes);
  const ring = ringOf(OLD, NEW);
  ring.follow(checkOf(NEW));
  const both = createSigningKeySealer(ring);
  expect(both.open("k", sealed).equals(bytes)).toBe(true);
  const anew = both.reseal("k", sealed);
  expect(both.reseal("k", anew ?? sealed)).toBeNull();
  expect(
    createSigningKeySealer(ringOf(NEW))
      .open("k", anew ?? sealed)
      .equals(bytes),
  ).toBe(true);
  expect(() => both.open("other", sealed)).toThrow("not authentic");
});

describe("a start", () => {
  test("follows the named key, whichever of the two it is", async () => {
    for (const named of [OLD, NEW]) {
      const keyStore = memoryKeys();
      keyStore.epochNow.key_check = checkOf(named);
      const ring = ringOf(OLD, NEW);
      await checkMasterKeys(keyStore, ring);
      expect(Buffer.from(ring.current().keyCheck).equals(checkOf(named))).toBe(true);
    }
  });

  test("of a new database with both given takes on the process's own, not the next", async () => {
    const keyStore = memoryKeys();
    await checkMasterKeys(keyStore, ringOf(OLD, NEW));
    expect(Buffer.from(keyStore.epochNow.key_check ?? []).equals(checkOf(OLD))).toBe(true);
  });

  test("with one of the two while they are being replaced is refused; with neither too, as ever", async () => {
    const keyStore = memoryKeys();
    keyStore.epochNow = {
      key_check: checkOf(NEW),
      previous_key_check: checkOf(OLD),
      keys_rotated_at: null,
    };
    for (const alone of [OLD, NEW])
      await expect(checkMasterKeys(keyStore, ringOf(alone))).rejects.toThrow("is being replaced");
    await expect(checkMasterKeys(keyStore, ringOf(randomBytes(32)))).rejects.toThrow("not the one");
    await checkMasterKeys(keyStore, ringOf(OLD, NEW));
    await checkMasterKeys(keyStore, ringOf(NEW, OLD));
  });

  test("with the same key twice is refused", () => {
    expect(() => ringOf(OLD, OLD)).toThrow("the same as the one");
  });
});
