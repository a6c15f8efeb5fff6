// What the port promises of any cloud's manager (src/domain/manager-ports.ts), as one suite: the names of the tests are
// the promises. A manager's own test file calls it with a way to set one up; what the manager and its vendor promise
// beyond the port is tested there.
import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { SecretAddress } from "../../src/domain/manager-ports.ts";
import { failureContract } from "./manager-contract-failures.ts";
import { type ContractFixture, TAGS, createKit } from "./manager-contract-kit.ts";

/** @param canFail false where nothing can be made to go wrong, so that only the first half runs */
export function managerContract(name: string, setup: () => Promise<ContractFixture>, canFail = true): void {
  let fixture: ContractFixture;
  const kit = createKit(() => fixture);
  const { manager, address, write, readOne } = kit;
  const held = async (at: SecretAddress) => (await fixture.held(at)) ?? new Map<string, string>();

  beforeEach(async () => {
    fixture = await setup();
  });
  afterEach(kit.close);

  const textOf = async (at: SecretAddress, version_id: string): Promise<string | null> => {
    const read = await readOne(at, version_id);
    return read.kind === "text" ? read.text : null;
  };

  describe(`manager ${name}: secrets and versions`, () => {
    test("an address of ours is known as ours, and no other", async () => {
      expect(manager().isOwn(address().at)).toBe(true);
      expect(manager().isOwn(await fixture.foreign("x"))).toBe(false);
    });

    test("a check passes where there is no secret yet", async () => {
      await expect(manager().check()).resolves.toBeUndefined();
    });

    test("ensure makes a secret, and answers what is there ever after", async () => {
      const { id, at } = address();
      const first = await manager().ensure(id, at, "one", TAGS);
      expect(first).toMatchObject({ kind: "text", text: "one" });
      expect(await fixture.other.ensure(id, at, "two", TAGS)).toEqual(first);
      expect([...(await held(at))]).toHaveLength(1);
    });

    test("of racers that ensure one secret, all get the text of one of them", async () => {
      const { id, at } = address();
      const racers = Array.from({ length: 6 }, (_, n) =>
        (n % 2 === 0 ? manager() : fixture.other).ensure(id, at, `text ${n}`, TAGS),
      );
      const texts = (await Promise.all(racers)).map((read) =>
        read.kind === "text" ? read.text : read.error,
      );
      expect(new Set(texts).size).toBe(1);
      expect([...(await held(at)).values()]).toEqual([texts[0]]);
    });

    test("a written version reads back by its id, and as the latest", async () => {
      const { at } = address();
      const first = await write(at, "one");
      expect(await readOne(at, first)).toEqual({ kind: "text", text: "one", version_id: first });
      const second = await write(at, "two", [first]);
      expect(await readOne(at, "latest")).toEqual({ kind: "text", text: "two", version_id: second });
      expect(await textOf(at, first)).toBe("one");
    });

    test("a write made again with its token adds nothing", async () => {
      const { at } = address();
      const token = randomUUID();
      const first = await write(at, "one", [], token);
      expect(await write(at, "one", [], token)).toBe(first);
      const next = randomUUID();
      const second = await write(at, "two", [first], next);
      expect(await write(at, "two", [first], next)).toBe(second);
      expect([...(await held(at))]).toEqual([
        [first, "one"],
        [second, "two"],
      ]);
    });

    test("a text comes back to the byte, whatever is in it, up to 64 KiB", async () => {
      const texts = [
        "\u{feff}bom",
        ' {"a": "\\u0000"}\r\n\t',
        "ä€𐍈\u{2028}",
        "x".repeat(65_536),
        "€".repeat(21_845),
      ];
      const { at } = address();
      const kept: string[] = [];
      for (const text of texts) kept.push(await write(at, text, kept));
      const reads = await manager().read(kept.map((version_id) => ({ ...at, version_id })));
      expect(reads.map((read) => (read.kind === "text" ? read.text : read.error.code))).toEqual(texts);
    });

    test("a text over 64 KiB is too large, and makes nothing", async () => {
      const { at } = address();
      await expect(write(at, "€".repeat(21_846))).rejects.toMatchObject({ code: "too_large" });
      expect(await fixture.held(at)).toBeNull();
    });

    test("where all places are taken all stay readable, until one is not kept any more", async () => {
      const { at } = address();
      if (manager().versionsMax > 20) return;
      const kept: string[] = [];
      for (let n = 0; n < manager().versionsMax; n += 1) kept.push(await write(at, `text ${n}`, kept));
      const last = await write(at, "last", kept);
      expect(await textOf(at, kept[0] ?? "")).toBe("text 0");
      const keep = [...kept.slice(1), last];
      await manager().reconcile(at, keep, last, []);
      expect([...(await held(at)).keys()].toSorted()).toEqual(keep.toSorted());
      expect(await textOf(at, kept[1] ?? "")).toBe("text 1");
    });
  });

  describe(`manager ${name}: reads`, () => {
    test("there is one result for each, in order; a failure is that one's alone", async () => {
      const [a, b, none] = [address().at, address().at, address().at];
      const one = await write(a, "one");
      const two = await write(a, "two", [one]);
      const other = await write(b, "other");
      const wanted = [
        { ...a, version_id: one },
        { ...none, version_id: one },
        { ...b, version_id: other },
        { ...a, version_id: fixture.noVersion() },
        { ...a, version_id: "latest" },
        { ...a, version_id: two },
        { ...a, version_id: one },
      ];
      const reads = await manager().read(wanted);
      expect(reads.map((read) => (read.kind === "text" ? read.text : `absent: ${read.absent}`))).toEqual([
        "one",
        "absent: true",
        "other",
        "absent: true",
        "two",
        "two",
        "one",
      ]);
      expect(reads[1]).toMatchObject({ error: { code: "manager_failed" } });
      expect(await manager().read([])).toEqual([]);
    });

    test("many are read at once", async () => {
      const all = await Promise.all(
        Array.from({ length: 45 }, async (_, n) => {
          const { at } = address();
          return { ...at, version_id: await write(at, `text ${n}`) };
        }),
      );
      const reads = await manager().read(all);
      expect(reads.map((read) => (read.kind === "text" ? read.text : read.error.code))).toEqual(
        all.map((_, n) => `text ${n}`),
      );
    });

    test("reads of one version at the same time are one call", async () => {
      const { at } = address();
      const version_id = await write(at, "one");
      const before = fixture.fake?.calls() ?? 0;
      const reads = await Promise.all(Array.from({ length: 8 }, () => readOne(at, version_id)));
      expect(new Set(reads.map((read) => read.kind))).toEqual(new Set(["text"]));
      if (fixture.fake !== null) expect(fixture.fake.calls() - before).toBe(1);
    });

    test("a secret that somebody else made has one whole name, and reads by it", async () => {
      const at = await fixture.foreign("theirs");
      const whole = await manager().canonical(at);
      expect(await manager().canonical(whole)).toEqual(whole);
      expect(await textOf(whole, "latest")).toBe("theirs");
      expect(await textOf(at, "latest")).toBe("theirs");
      expect(manager().isOwn(whole)).toBe(false);
    });

    test("a secret of ours has a whole name that is known as ours", async () => {
      const { at } = address();
      await write(at, "one");
      expect(manager().isOwn(await manager().canonical(at))).toBe(true);
    });

    test("what is not there has no whole name", async () => {
      await expect(manager().canonical(fixture.nowhere())).rejects.toMatchObject({ code: "not_found" });
    });
  });

  describe(`manager ${name}: reconcile`, () => {
    async function three() {
      const { at } = address();
      const a = await write(at, "a");
      const b = await write(at, "b", [a]);
      const c = await write(at, "c", [a, b]);
      return { at, a, b, c };
    }
    const gone = (ids: readonly string[]) => (fixture.forgetsAtOnce ? ids : expect.any(Array));

    test("what is kept stays, whatever else there is goes and is confirmed; again changes nothing", async () => {
      const { at, a, b, c } = await three();
      for (const by of [manager(), fixture.other]) {
        expect(await by.reconcile(at, [a, c], c, [b])).toEqual(gone([b]));
        expect([...(await held(at))]).toEqual([
          [a, "a"],
          [c, "c"],
        ]);
        expect(await readOne(at, "latest")).toMatchObject({ text: "c", version_id: c });
      }
    });

    test("one that is to be kept is not confirmed as gone", async () => {
      const { at, a, b, c } = await three();
      expect(await manager().reconcile(at, [a, b, c], c, [b])).toEqual([]);
    });

    test("the current version goes, and an older one takes its place", async () => {
      const { at, a, b, c } = await three();
      await manager().reconcile(at, [a, b], b, [c]);
      expect([...(await held(at)).keys()]).toEqual([a, b]);
      const d = await write(at, "d", [a, b]);
      expect([...(await held(at)).keys()]).toEqual([a, b, d]);
    });

    test("with nothing to keep the secret goes; again, and where there is none, all are confirmed", async () => {
      const { at, a, b, c } = await three();
      for (const by of [manager(), fixture.other]) {
        expect(await by.reconcile(at, [], null, [a, b, c])).toEqual(gone([a, b, c]));
        expect(await fixture.held(at)).toBeNull();
      }
      expect(await manager().reconcile(address().at, [a], a, [b])).toEqual([b]);
    });

    test("a version that vanished behind our back stops nothing", async () => {
      const { at, a, b, c } = await three();
      expect(await manager().reconcile(at, [fixture.noVersion(), a, c], c, [b])).toEqual(gone([b]));
      expect([...(await held(at)).keys()]).toEqual([a, c]);
    });
  });

  if (canFail) failureContract(name, () => fixture, kit);
}
