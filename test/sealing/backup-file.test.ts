// What a backup's file promises: it opens whole, under its own key, as it was written, or not at all.
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type BackupTo, generateBackupKey, openBackup, sealBackup } from "../../src/sealing/backup-file.ts";
import { createMasterKeys } from "../../src/sealing/master-key.ts";

const master = createMasterKeys(randomBytes(32)).backup;
const by = { master, identity: null };
const NOW = new Date("2026-03-04T05:06:07.089Z");

async function* pieces(bytes: Uint8Array, size = 10_007): AsyncGenerator<Uint8Array> {
  for (let start = 0; start < bytes.length; start += size) yield bytes.subarray(start, start + size);
}
async function whole(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}
const sealed = (content: Uint8Array, to: BackupTo = { master }) =>
  whole(sealBackup(pieces(content), to, NOW));
const opened = (file: Uint8Array, size?: number) => whole(openBackup(pieces(file, size), by));

/** Where each chunk begins and ends. */
function chunksOf(file: Buffer): [number, number][] {
  const found: [number, number][] = [];
  for (let at = file.indexOf("\n", file.indexOf("\n") + 1) + 1; at < file.length; ) {
    const end = at + 4 + file.readUInt32BE(at);
    found.push([at, end]);
    at = end;
  }
  return found;
}

test("what was sealed opens as it was, whatever its length and however it arrives", async () => {
  for (const length of [0, 1, 65_535, 65_536, 65_537, 131_072, 200_000]) {
    const content = randomBytes(length);
    const file = await sealed(content);
    for (const size of [1_000, 65_536, 1_000_000])
      expect((await opened(file, size)).equals(content)).toBe(true);
  }
});

test("two backups of the same content have nothing but their first line in common", async () => {
  const content = Buffer.alloc(1_000, "same");
  const [one, other] = await Promise.all([sealed(content), sealed(content)]);
  expect(one.subarray(-900).equals(other.subarray(-900))).toBe(false);
  expect(one.includes("same")).toBe(false);
});

describe("a file does not open", () => {
  const content = randomBytes(250_000);
  const FLAW = /no backup|does not open|cut off or altered/;

  test("when it is cut off, wherever that is", async () => {
    const file = await sealed(content);
    const ends = chunksOf(file).flatMap(([start, end]) => [start, start + 2, start + 4, end - 1, end]);
    for (const end of ends.filter((each) => each < file.length))
      await expect(opened(file.subarray(0, end))).rejects.toThrow(FLAW);
    await fc.assert(
      fc.asyncProperty(fc.nat(file.length - 1), async (end) => {
        await expect(opened(file.subarray(0, end))).rejects.toThrow(FLAW);
      }),
      { numRuns: 50 },
    );
  });

  test("when any bit is another", async () => {
    const file = await sealed(content);
    await fc.assert(
      fc.asyncProperty(fc.nat(file.length - 1), fc.nat(7), async (index, bit) => {
        const altered = Buffer.from(file);
        altered.writeUInt8(altered.readUInt8(index) ^ (1 << bit), index);
        await expect(opened(altered)).rejects.toThrow(FLAW);
      }),
      { numRuns: 100 },
    );
  });

  test("when chunks are swapped, left out, told twice, added, or come from another backup", async () => {
    const file = await sealed(content);
    const other = await sealed(content);
    const [first, second, third] = chunksOf(file);
    const part = ([start, end]: [number, number] | undefined = [0, 0], from = file) =>
      from.subarray(start, end);
    const header = file.subarray(0, first?.[0]);
    const rest = file.subarray(third?.[0]);
    for (const parts of [
      [header, part(second), part(first), rest],
      [header, part(second), rest],
      [header, part(first), part(first), part(second), rest],
      [file, part(second)],
      [file, Buffer.from([0])],
      [header, part(first), part(second, other), rest],
      [other.subarray(0, first?.[0]), part(first), part(second), rest],
    ])
      await expect(opened(Buffer.concat(parts))).rejects.toThrow(FLAW);
  });

  test("under another master key, or another identity, or with none; what it says names no key", async () => {
    const { recipient, identity } = generateBackupKey();
    const stranger = generateBackupKey().identity;
    const other = createMasterKeys(randomBytes(32)).backup;
    const file = await sealed(content);
    await expect(whole(openBackup(pieces(file), { master: other, identity }))).rejects.toThrow(FLAW);
    const received = await sealed(content, { recipient });
    const open = (given: string | null) => whole(openBackup(pieces(received), { master, identity: given }));
    expect((await open(identity)).equals(content)).toBe(true);
    await expect(open(stranger)).rejects.toThrow(FLAW);
    await expect(open(null)).rejects.toThrow("its identity is needed");
    for (const nonsense of ["", recipient, identity.slice(0, -3), "COFFER-IDENTITY-x"]) {
      const error = await open(nonsense).catch((thrown: unknown) => thrown);
      expect(String(error)).toBe("BackupFlaw: That is no identity: one starts with COFFER-IDENTITY-.");
    }
  });
});
