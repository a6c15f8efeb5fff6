import { randomBytes, randomUUID } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { SecretAddress, SecretIdentity } from "../../src/domain/manager-ports.ts";
import type { SettingRecord, SettingRow, VersionRecord } from "../../src/domain/setting.ts";
import { createMasterKeys } from "../../src/sealing/master-key.ts";
import { createMasterKeyRing } from "../../src/sealing/master-key-ring.ts";
import { createRowMac } from "../../src/sealing/row-mac.ts";
import { ownerKey, settingOf } from "./fixture.ts";

const newRowMac = () => createRowMac(createMasterKeyRing(createMasterKeys(randomBytes(32))));
const rowMac = newRowMac();

function genuineRow(): SettingRow {
  const setting = { ...settingOf(ownerKey()), expires_at: new Date(1_800_000_000_000) };
  const version: Omit<VersionRecord, "mac"> = {
    tenant_id: setting.tenant_id,
    setting_id: setting.id,
    version: 1,
    state: "enabled",
    storage: "envelope",
    manager: "local",
    data_key_id: randomUUID(),
    sealed: randomBytes(40),
    location: null,
    created_at: setting.created_at,
    created_by: setting.created_by,
    last_accessed_at: null,
  };
  return {
    setting: { ...setting, mac: rowMac.ofSetting(setting) },
    version: { ...version, mac: rowMac.ofVersion(setting, version) },
  };
}

const uuid = fc.uuid();
const time = fc.oneof(
  fc.constant(null),
  fc.date({ noInvalidDate: true }),
  fc.constant(new Date(Number.NaN)),
  // What a driver makes of PostgreSQL's `infinity`, whatever the type says.
  fc.constant(Number.POSITIVE_INFINITY as unknown as Date),
);
type Altered<Row> = { readonly [Name in keyof Row]?: fc.Arbitrary<unknown> };

const COVERED_OF_SETTING: Altered<SettingRecord> = {
  tenant_id: uuid,
  id: uuid,
  owner_type: fc.constantFrom("organization", "project", "user"),
  owner_id: uuid,
  path: fc.string({ unit: "grapheme" }),
  type: fc.constantFrom("custom", "s3", "container_registry"),
  current_version: fc.integer(),
  expires_at: time,
  deleted_at: time,
};
const COVERED_OF_VERSION: Altered<VersionRecord> = {
  tenant_id: uuid,
  setting_id: uuid,
  version: fc.integer(),
  state: fc.constantFrom("enabled", "destroying", "destroyed", "other"),
  storage: fc.constantFrom("envelope", "manager", "external"),
  manager: fc.constantFrom("local", "aws", "gcp"),
  data_key_id: fc.option(uuid),
  sealed: fc.option(fc.uint8Array({ maxLength: 60 })),
};

/** Dates by their time and bytes by their content, so that a "change" to an equal value is not one. */
function plain(value: unknown): unknown {
  if (value instanceof Date) return `date ${value.getTime()}`;
  return value instanceof Uint8Array ? `bytes ${Buffer.from(value).toString("hex")}` : value;
}

describe("a row's MACs", () => {
  const cases = [
    ...Object.entries(COVERED_OF_SETTING).map(([name, values]) => ["setting", name, values] as const),
    ...Object.entries(COVERED_OF_VERSION).map(([name, values]) => ["version", name, values] as const),
  ];

  test.each(cases)(
    "cover the %s's %s: whatever it is changed to, the row is not genuine",
    (part, name, values) => {
      fc.assert(
        fc.property(values, (changed) => {
          const row = genuineRow();
          expect(rowMac.isGenuine(row)).toBe(true);
          const record: Record<string, unknown> = { ...row[part] };
          fc.pre(plain(record[name]) !== plain(changed));
          record[name] = changed;
          expect(rowMac.isGenuine({ ...row, [part]: record })).toBe(false);
        }),
      );
    },
  );

  const locations = [
    { secret_id: "coffer/a", region: "eu-central-1", version_id: "7", bytes: 5 },
    { resource: "projects/p/secrets/s", version_id: "7", json_field: "key", bytes: 5 },
  ];
  test.each(locations.flatMap((location) => Object.keys(location).map((name) => ({ name, location }))))(
    "cover a location's $name, and its kind: what merely prints the same is not genuine",
    ({ name, location }) => {
      const { setting, version } = genuineRow();
      const remote = { ...version, sealed: null, data_key_id: null, storage: "manager" };
      const mac = rowMac.ofVersion(setting, { ...remote, location } as VersionRecord);
      const at = (changed: object) => ({
        setting,
        version: { ...remote, location: changed, mac } as VersionRecord,
      });
      expect(rowMac.isGenuine(at(location))).toBe(true);
      const held = location[name as keyof typeof location];
      // As `jsonb` may hold it.
      const printsTheSame = [[held], [[held]], typeof held === "number" ? String(held) : Number(held)];
      for (const changed of [...printsTheSame, true, {}, { toString: 1, valueOf: 1 }, null, `${held}.`])
        expect(rowMac.isGenuine(at({ ...location, [name]: changed }))).toBe(false);
    },
  );

  test("cover a secret's address, which has what they cover and nothing else", () => {
    const { tenant_id, id, owner_type, owner_id, path } = genuineRow().setting;
    const unsettled = { unsettled_at: new Date(), attempts: 0 };
    for (const address of [
      { secret_id: "coffer/a", region: "eu-central-1" },
      { resource: "projects/p/secrets/s" },
    ]) {
      const identity: SecretIdentity = {
        tenant_id,
        id: randomUUID(),
        purpose: "setting",
        manager: "aws",
        address,
        version_id: null,
        setting_id: id,
        owner: { owner_type, owner_id },
        path,
      };
      const mac = rowMac.ofSecret(identity);
      const isGenuine = (changed: unknown): boolean =>
        rowMac.isGenuineSecret({ ...identity, mac, address: changed as SecretAddress, ...unsettled });
      expect(isGenuine(address)).toBe(true);
      const other = { resource: "projects/p/secrets/s", secret_id: "coffer/a", region: "eu-central-1" };
      for (const changed of [{ ...address, x: 1 }, other, [address], {}, [], null, "x", 7, true])
        expect(isGenuine(changed)).toBe(false);
      for (const [name, text] of Object.entries(address))
        for (const changed of [[text], `${text}.`, null, { toString: 1 }])
          expect(isGenuine({ ...address, [name]: changed })).toBe(false);
    }
  });

  test("are themselves no use when cut, lengthened or altered", () => {
    const row = genuineRow();
    for (const part of ["setting", "version"] as const) {
      const { mac } = row[part];
      const altered = Buffer.from(mac);
      altered.writeUInt8(altered.readUInt8(31) ^ 1, 31);
      for (const bad of [mac.slice(0, 31), Buffer.concat([mac, Buffer.alloc(1)]), new Uint8Array(), altered])
        expect(rowMac.isGenuine({ ...row, [part]: { ...row[part], mac: bad } })).toBe(false);
    }
  });

  test("do not fit a version of another setting, nor one of another key", () => {
    const [one, other] = [genuineRow(), genuineRow()];
    expect(rowMac.isGenuine({ setting: one.setting, version: other.version })).toBe(false);
    const renamed = { ...other.version, setting_id: one.setting.id, tenant_id: one.setting.tenant_id };
    expect(rowMac.isGenuine({ setting: one.setting, version: renamed })).toBe(false);
    expect(newRowMac().isGenuine(one)).toBe(false);
  });

  test("do not fit when both rows are moved to another tenant together", () => {
    const row = genuineRow();
    const tenant_id = randomUUID();
    const moved = { setting: { ...row.setting, tenant_id }, version: { ...row.version, tenant_id } };
    expect(rowMac.isGenuine(moved)).toBe(false);
  });

  test("let shown metadata and access times change", () => {
    const { setting, version } = genuineRow();
    const shown = { description: "d", labels: { a: "b" }, revision: 9, rotate_after_days: 3 };
    const at = { last_accessed_at: new Date(), updated_at: new Date() };
    expect(
      rowMac.isGenuine({
        setting: { ...setting, ...shown, ...at },
        version: { ...version, last_accessed_at: new Date() },
      }),
    ).toBe(true);
  });

  test("are the same whether bytes come as a Buffer or a Uint8Array", () => {
    const { setting, version } = genuineRow();
    const sealed = Uint8Array.from(version.sealed ?? []);
    const mac = Uint8Array.from(version.mac);
    expect(rowMac.isGenuine({ setting, version: { ...version, sealed, mac } })).toBe(true);
  });
});
