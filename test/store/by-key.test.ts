// Rows are found by their whole keys however little the planner knows: on tables that are empty and were never analyzed,
// as at a first start, where a connection may keep its plans until long after they have been filled.
import { expect, test } from "vitest";
import type { SettingQuery } from "../../src/domain/ports.ts";
import type { AccessNotes } from "../../src/store/access-notes.ts";
import type { Db, Statement } from "../../src/store/db.ts";
import { settingMany } from "../../src/store/lookups.ts";
import { readAheadStatement } from "../../src/store/read-ahead-sql.ts";
import { settingReads } from "../../src/store/settings.ts";
import { newId, openFixture, path, prefix } from "./fixture.ts";

type Plan = {
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Index Cond"?: string;
  readonly Plans?: readonly Plan[];
};

/** What finds settings, as it is sent. */
async function statementsOf(): Promise<readonly Statement[]> {
  const sent: Statement[] = [readAheadStatement];
  const query: Db["query"] = async (statement) => {
    sent.push(statement);
    return [];
  };
  const db = { query } as Db;
  const notes = {} as AccessNotes;
  const key = { tenant_id: newId(), owner_type: "project" as const, owner_id: newId() };
  const at = path("secret/Custom/a");
  const reads = settingReads(db, notes);
  await settingMany(db, notes, [{ key, path: at }]);
  await reads.setting(key, at);
  await reads.settingsAt(key, [at]);
  const selects: readonly SettingQuery["select"][] = [
    { kind: "at", path: at, match: "exact" },
    { kind: "at", path: at, match: "auto" },
    { kind: "under", prefix: prefix("secret/Custom") },
    { kind: "all" },
  ];
  for (const select of selects)
    for (const sealed_bytes_max of [null, 1])
      await reads.settings({
        key,
        select,
        include_deleted: false,
        type: null,
        label: null,
        after: null,
        limit: 10,
        sealed_bytes_max,
        asked_at: new Date(),
      });
  return [...new Map(sent.map((each) => [each.name, each])).values()];
}

const scansOf = (plan: Plan): readonly Plan[] => [
  ...(["settings", "setting_versions"].includes(plan["Relation Name"] ?? "") ? [plan] : []),
  ...(plan.Plans ?? []).flatMap(scansOf),
];

test("no statement is planned to go through all of a tenant's settings or versions, of tables that are still empty", async () => {
  const { driver } = await openFixture();
  const statements = await statementsOf();
  expect(statements.length).toBeGreaterThanOrEqual(8);
  for (const { name, text } of statements) {
    const { rows } = await driver.query(`EXPLAIN (GENERIC_PLAN, FORMAT JSON) ${text}`);
    const scans = scansOf(rows[0]["QUERY PLAN"][0].Plan);
    expect([name, scans.length >= 2]).toEqual([name, true]);
    for (const { "Relation Name": table, "Index Name": index, "Index Cond": condition } of scans) {
      const expected =
        table === "settings" ? "settings_tenant_id_owner_type_owner_id_path_key" : "setting_versions_pkey";
      expect([name, table, index]).toEqual([name, table, expected]);
      for (const column of table === "settings" ? ["owner_id", "path"] : ["setting_id", "version"])
        expect([name, table, condition]).toEqual([name, table, expect.stringContaining(`${column} `)]);
    }
  }
});
