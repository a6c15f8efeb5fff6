// What is noted of uses before it is written: what is due when, and that nothing which was noted is ever passed over.
import fc from "fast-check";
import { afterEach, expect, test, vi } from "vitest";
import { ACCESS_NOTED_SECONDS } from "../../src/domain/ports.ts";
import { KeptRow } from "../../src/domain/kept-row.ts";
import type { SettingRow } from "../../src/domain/setting.ts";
import { type Note, type Seen, createNotesTable } from "../../src/store/access-notes-table.ts";

afterEach(() => void vi.useRealTimers());

const rewriteMs = ACCESS_NOTED_SECONDS * 1_000;

/** As much of a row as is looked at. */
function rowOf(id: string, version = 1): SettingRow {
  const row = { setting: { tenant_id: "t", id }, version: { setting_id: id, version } };
  return new KeptRow(row as unknown as SettingRow);
}

const seenOf = (note: Note): Seen[] => [
  note,
  ...note.versions.flatMap((each) => [each, ...each.readers.values()]),
];

/** What a write that had all its rows does. */
function write(table: ReturnType<typeof createNotesTable>, all = false): string[] {
  const due = table.takeDue(all);
  for (const seen of due.flatMap(seenOf)) seen.written = seen.at;
  table.putBack(due, false);
  return due.map(({ id }) => id).toSorted();
}

test("what is due is what has a use that was never written, or one that is newer than a write of long ago", () => {
  vi.useFakeTimers({ toFake: ["Date"], now: 1_000_000_000 });
  type Step =
    | { readonly kind: "read"; readonly id: string; readonly version: number; readonly reader: string }
    | { readonly kind: "token"; readonly id: string }
    | { readonly kind: "wait"; readonly ms: number }
    | { readonly kind: "write" | "writeAll" | "fail" };
  const one = (...texts: string[]) => fc.constantFrom(...texts);
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({
      kind: fc.constant("read" as const),
      id: one("a", "b", "c"),
      version: fc.constantFrom(1, 2),
      reader: one("p", "q"),
    }),
    fc.record({ kind: fc.constant("token" as const), id: one("x", "y") }),
    fc.record({ kind: fc.constant("wait" as const), ms: fc.constantFrom(1, rewriteMs / 2, rewriteMs) }),
    fc.record({ kind: fc.constantFrom("write" as const, "writeAll" as const, "fail" as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
      const table = createNotesTable();
      const rows = new Map<string, SettingRow>();
      /** The uses of each setting or token, in the plainest form; `own` is that of the whole. */
      type Uses = { isNoted: boolean; readonly parts: Map<string, { at: number; written: number }> };
      const uses = new Map<string, Uses>();
      const use = (id: string, ...more: string[]): void => {
        const { parts } = uses.get(id) ?? { parts: new Map<string, { at: number; written: number }>() };
        for (const part of ["own", ...more])
          parts.set(part, { written: parts.get(part)?.written ?? 0, at: Date.now() });
        uses.set(id, { isNoted: true, parts });
      };
      const isDue = ({ isNoted, parts }: Uses): boolean => {
        const isNever = [...parts.values()].some(({ written }) => written === 0);
        return isNoted && (isNever || (parts.get("own")?.written ?? 0) + rewriteMs <= Date.now());
      };
      const idsWhere = (is: (use: Uses) => boolean): string[] =>
        [...uses].flatMap(([id, each]) => (is(each) ? id : [])).toSorted();
      for (const each of steps) {
        if (each.kind === "wait") vi.setSystemTime(Date.now() + each.ms);
        else if (each.kind === "token") {
          use(each.id);
          table.noteTokenUse(each.id, Date.now());
        } else if (each.kind === "read") {
          const { id, version, reader } = each;
          use(id, `v${version}`, `v${version}${reader}`);
          const row = rows.get(`${id}${version}`) ?? rowOf(id, version);
          rows.set(`${id}${version}`, row);
          table.noteDisclosure(row, reader, Date.now());
          expect(table.settingAt(row)).toBe(Date.now());
        } else if (each.kind === "fail") {
          const due = table.takeDue(false);
          expect(due.map(({ id }) => id).toSorted()).toEqual(idsWhere(isDue));
          table.putBack(due, true);
          for (const { id } of due) {
            const known = uses.get(id) as Uses;
            known.isNoted = [...known.parts.values()].some(({ at, written }) => at > written);
          }
        } else {
          const due = idsWhere(each.kind === "writeAll" ? ({ isNoted }) => isNoted : isDue);
          expect(write(table, each.kind === "writeAll")).toEqual(due);
          for (const id of due) {
            const known = uses.get(id) as Uses;
            known.isNoted = false;
            for (const part of known.parts.values()) part.written = part.at;
          }
        }
        expect(table.isAllWritten()).toBe(![...uses.values()].some(({ isNoted }) => isNoted));
      }
    }),
    { numRuns: 500 },
  );
});

test("a row in memory whose note was given up is noted anew", () => {
  const table = createNotesTable(30);
  const row = rowOf("kept");
  table.noteDisclosure(row, "p", 1);
  expect(table.settingAt(row)).toBe(1);
  write(table);
  // Past half of the room what is written goes, the oldest first.
  for (let n = 0; n < 8; n++) table.noteDisclosure(rowOf(`other ${n}`), "p", 2);
  write(table);
  expect(table.settingAt(row)).toBeUndefined();
  table.noteDisclosure(row, "p", 3);
  expect(table.settingAt(rowOf("kept"))).toBe(3);
  expect(write(table)).toEqual(["kept"]);
});

test("what finds no room is not noted, and what is known already still is", () => {
  const table = createNotesTable(3);
  const [known, other] = [rowOf("known"), rowOf("other")];
  table.noteDisclosure(known, "p", 1);
  table.noteDisclosure(other, "p", 1);
  table.noteDisclosure(known, "p", 2);
  expect([table.settingAt(known), table.settingAt(other)]).toEqual([2, undefined]);
});

test("many that are due once more are written a few at a time, and what never was does not wait for them", () => {
  vi.useFakeTimers({ toFake: ["Date"], now: 1_000_000_000 });
  const table = createNotesTable();
  const read = (id: string): void => table.noteDisclosure(rowOf(id), "p", Date.now());
  const ids = Array.from({ length: 600 }, (_, n) => `s${n}`);
  ids.forEach(read);
  const fresh = [];
  while (!table.isAllWritten()) fresh.push([write(table).length, table.isUrgent()]);
  expect(fresh).toEqual([
    [250, true],
    [250, true],
    [100, false],
  ]);
  vi.setSystemTime(Date.now() + rewriteMs);
  ids.forEach(read);
  expect([write(table).length, table.isUrgent()]).toEqual([100, false]);
  read("never before");
  const next = write(table);
  expect([next.length, next.includes("never before"), table.isUrgent()]).toEqual([101, true, false]);
  const rest = [];
  while (!table.isAllWritten()) rest.push(write(table).length);
  expect(rest).toEqual([100, 100, 100, 100]);
});

test.each([0, 1, 2])(
  "among many that are due, one of whose rows could not be had (%i) is tried with each write",
  (missed) => {
    vi.useFakeTimers({ toFake: ["Date"], now: 1_000_000_000 });
    const table = createNotesTable();
    const ids = Array.from({ length: 400 }, (_, n) => `s${n}`);
    const readAll = (): void => ids.forEach((id) => table.noteDisclosure(rowOf(id), "p", Date.now()));
    readAll();
    while (!table.isAllWritten()) write(table);
    vi.setSystemTime(Date.now() + rewriteMs);
    readAll();
    for (let time = 0; time < 3; time++) {
      const due = table.takeDue(false);
      expect(due.map(({ id }) => id)).toContain("s0");
      for (const note of due)
        for (const [index, seen] of seenOf(note).entries()) {
          if (note.id === "s0" && index === missed) seen.missedAt = 1;
          else seen.written = seen.at;
        }
      table.putBack(due, false);
    }
  },
);

test("where a write fails half way, what is left of it is not due five minutes later, but with the next", () => {
  vi.useFakeTimers({ toFake: ["Date"], now: 1_000_000_000 });
  const table = createNotesTable();
  table.noteDisclosure(rowOf("s"), "p", Date.now());
  write(table);
  vi.setSystemTime(Date.now() + rewriteMs);
  table.noteDisclosure(rowOf("s"), "p", Date.now());
  const due = table.takeDue(false);
  for (const note of due) note.written = note.at;
  table.putBack(due, true);
  expect(write(table)).toEqual(["s"]);
  expect(table.isAllWritten()).toBe(true);
});
