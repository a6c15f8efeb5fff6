import { randomBytes } from "node:crypto";
import { chmod, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadOrCreateMasterKeyFile, readMasterKeyFile } from "../../src/sealing/master-key-file.ts";
import { checkMasterKeys } from "../../src/sealing/key-check.ts";
import { createMasterKeys, generateMasterKey, parseMasterKey } from "../../src/sealing/master-key.ts";
import { createMasterKeyRing } from "../../src/sealing/master-key-ring.ts";
import { memoryKeys } from "./fixture.ts";

const thirtyTwo = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));

/** Of 32 bytes of 0x01: row MAC, KEK wrapping, key check; computed with another implementation (Python's hmac). */
const PINNED = [
  "6eef1b4e3c783215678f1b19c23545d2353f7784bd3c59cdd514a10e3034cf50",
  "dd64f309c01efa1a30625c5227773214b79aab545f9aabe476b011ff72e359cb",
  "c5e05825e88def19fb255a1492d060bdd0bec884f12093fb94c0f3559ad2c0fc",
];

describe("a master key's text", () => {
  test("is read as hexadecimal, base64 or base64url, white space around it or not", () => {
    fc.assert(
      fc.property(thirtyTwo, (bytes) => {
        const hex = bytes.toString("hex");
        const base64 = bytes.toString("base64");
        for (const text of [hex, hex.toUpperCase(), base64, base64.slice(0, -1), bytes.toString("base64url")])
          for (const given of [text, `${text}\n`, ` ${text}\r\n`])
            expect(parseMasterKey(given).equals(bytes)).toBe(true);
      }),
    );
  });

  test("that is not exactly 32 bytes is refused, and is not repeated", () => {
    const wrong = fc.oneof(
      fc
        .uint8Array({ maxLength: 80 })
        .filter((bytes) => bytes.length !== 32)
        .map((bytes) => Buffer.from(bytes).toString("base64")),
      thirtyTwo.map((bytes) => bytes.toString("hex").slice(1)),
      thirtyTwo.map((bytes) => `${bytes.toString("hex")}0`),
      thirtyTwo.map((bytes) => bytes.toString("base64").slice(1)),
      thirtyTwo.map(
        (bytes) => `${bytes.toString("base64").slice(0, 20)} ${bytes.toString("base64").slice(20)}`,
      ),
      thirtyTwo.map((bytes) => `!${bytes.toString("base64url")}`),
      thirtyTwo.map((bytes) => `${bytes.toString("base64")}=`),
    );
    fc.assert(
      fc.property(wrong, (text) => {
        fc.pre(text.length !== 64 || !/^[0-9a-f]*$/i.test(text));
        const failure = attempt(() => parseMasterKey(text));
        expect(failure).toMatch(/^Error: A master key is 32 random bytes: /);
        expect(text.length > 8 && failure.includes(text.slice(0, 8))).toBe(false);
      }),
    );
  });

  test("whose spare bits are not zero is refused, as a truncated or mistyped one", () => {
    expect(() => parseMasterKey(`${"A".repeat(42)}B`)).toThrow("A master key is");
  });

  test("that is generated is new each time and can be read", () => {
    const made = Array.from({ length: 50 }, generateMasterKey);
    expect(new Set(made).size).toBe(50);
    for (const text of made) expect(parseMasterKey(text)).toHaveLength(32);
  });
});

describe("subkeys", () => {
  test("are the same for the same master key, differ from each other and from it", () => {
    const raw = randomBytes(32);
    const [one, other] = [createMasterKeys(Buffer.from(raw)), createMasterKeys(Buffer.from(raw))];
    const hexOf = (keys: typeof one): string[] => [
      keys.kekWrapping.export().toString("hex"),
      keys.rowMac.export().toString("hex"),
      Buffer.from(keys.keyCheck).toString("hex"),
    ];
    expect(hexOf(one)).toEqual(hexOf(other));
    expect(new Set([...hexOf(one), raw.toString("hex")]).size).toBe(4);
  });

  test("are what HKDF-SHA-256 gives: a changed derivation would lose every database", () => {
    const { rowMac, kekWrapping, keyCheck } = createMasterKeys(Buffer.alloc(32, 1));
    expect(
      [rowMac.export(), kekWrapping.export(), Buffer.from(keyCheck)].map((each) => each.toString("hex")),
    ).toEqual(PINNED);
  });

  test("leave nothing of the master key in its buffer, and print nothing", () => {
    const raw = randomBytes(32);
    const hex = raw.toString("hex");
    const keys = createMasterKeys(raw);
    expect(raw.every((byte) => byte === 0)).toBe(true);
    const printed = `${inspect(keys, { depth: null, showHidden: true })}${JSON.stringify(keys)}`;
    for (const secret of [
      hex,
      keys.kekWrapping.export().toString("hex"),
      keys.rowMac.export().toString("hex"),
    ]) {
      expect(printed).not.toContain(secret);
      expect(printed).not.toContain(secret.slice(0, 16).replaceAll(/(..)(?=.)/g, "$1 "));
    }
    expect(() => createMasterKeys(raw)).toThrow("taken already");
    expect(() => createMasterKeys(Buffer.alloc(31, 1))).toThrow("32 bytes");
  });
});

const ringOf = (raw = randomBytes(32)) => createMasterKeyRing(createMasterKeys(Buffer.from(raw)));

describe("the key check", () => {
  test("takes on a new database's first key, knows it again, and refuses another", async () => {
    const store = memoryKeys();
    const raw = randomBytes(32);
    await checkMasterKeys(store, ringOf(raw));
    await checkMasterKeys(store, ringOf(raw));
    await expect(checkMasterKeys(store, ringOf())).rejects.toThrow(
      "not the one that this database was made with",
    );
  });

  test("refuses a stored value of another length", async () => {
    const store = memoryKeys();
    await store.keyCheck(new Uint8Array(3));
    await expect(checkMasterKeys(store, ringOf())).rejects.toThrow("not the one");
  });
});

describe("the master key's file", () => {
  let home: string;
  let path: string;
  beforeEach(async () => {
    home = await mkdtemp(join(tmpdir(), "coffer-key-"));
    path = join(home, "master.key");
  });
  afterEach(() => rm(home, { recursive: true, force: true }));

  test("is made once, for its owner alone, and left as it is from then on", async () => {
    const first = await loadOrCreateMasterKeyFile(path);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const content = await readFile(path, "utf8");
    expect((await loadOrCreateMasterKeyFile(path)).equals(first)).toBe(true);
    expect(await readFile(path, "utf8")).toBe(content);
    expect(await readdir(home)).toEqual(["master.key"]);
  });

  test("is one and the same for all who start at once", async () => {
    const all = await Promise.all(Array.from({ length: 20 }, () => loadOrCreateMasterKeyFile(path)));
    expect(new Set(all.map((bytes) => bytes.toString("hex"))).size).toBe(1);
    expect(await readdir(home)).toEqual(["master.key"]);
  });

  test("is refused when others may read or write it, with the remedy", async () => {
    await writeFile(path, generateMasterKey());
    for (const mode of [0o604, 0o640, 0o660, 0o602, 0o620]) {
      await chmod(path, mode);
      await expect(loadOrCreateMasterKeyFile(path)).rejects.toThrow(/open to other users.*chmod 600/);
    }
    await chmod(path, 0o440);
    await expect(readMasterKeyFile(path, "group")).resolves.toHaveLength(32);
    await chmod(path, 0o444);
    await expect(readMasterKeyFile(path, "group")).rejects.toThrow("open to other users");
  });

  test("that holds no key is refused, not replaced, and not repeated", async () => {
    for (const content of ["", "canary-not-a-key", "x".repeat(2_000)]) {
      await writeFile(path, content, { mode: 0o600 });
      const failure = await loadOrCreateMasterKeyFile(path).catch((error: unknown) => inspect(error));
      expect(failure).toMatch(/holds no master key|too large to be a master key/);
      expect(failure).not.toContain("canary-not");
      expect(await readFile(path, "utf8")).toBe(content);
    }
  });

  test("is not made where a link points nowhere, nor in a folder that is not there", async () => {
    await symlink(join(home, "gone"), path);
    await expect(loadOrCreateMasterKeyFile(path)).rejects.toThrow("ENOENT");
    await expect(loadOrCreateMasterKeyFile(join(home, "no/master.key"))).rejects.toThrow("ENOENT");
    await expect(readMasterKeyFile(join(home, "gone"), "owner")).rejects.toThrow(
      `The master key's file ${join(home, "gone")} cannot be read: ENOENT.`,
    );
  });
});

function attempt(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return String(error);
  }
  throw new Error("it was accepted");
}
