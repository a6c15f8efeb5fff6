// A row that stays in memory is handed on as it is: what was found out of it is private to the very object.
import { expect, test } from "vitest";
import { KeptRow } from "../../src/domain/kept-row.ts";
import type { Reader } from "../../src/domain/ports.ts";
import { strictRow } from "../../src/domain/value-read.ts";
import { ownerKey, replica, settingOf, written } from "../sealing/fixture.ts";
import { path } from "../store/fixture.ts";

test.each([null, 1])("a strict read at version %s is of the very row that was found", async (version) => {
  const { vault } = replica();
  const key = ownerKey();
  const setting = settingOf(key, "custom");
  const [row] = KeptRow.pageOfRows([await written(replica(), key, "a value", setting)]);
  const reader = { setting: async () => row ?? null } as unknown as Reader;
  const found = await strictRow(reader, vault, key, path(setting.path), version, new Date());
  expect(found).toBe(row);
});
