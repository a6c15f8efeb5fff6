// What a write looks up, for many at once: who calls and where they stand, the setting at a path, where an owner's
// settings go, an owner's newest data key. The same statements serve the pool and a transaction that many share.
import type { Role } from "../domain/access.ts";
import type { Owner, OwnerType, SettingPath } from "../domain/address.ts";
import type { OwnerManagers } from "../domain/manager-store-ports.ts";
import type { Admission, OwnerKey, PresentedToken } from "../domain/ports.ts";
import type { DataKeyRecord } from "../domain/sealing-ports.ts";
import type { ManagerName, Placement, SettingRow } from "../domain/setting.ts";
import type { AccessNotes } from "./access-notes.ts";
import { atPath, withVersion } from "./by-key.ts";
import { type Cell, type Column, arraysOf, bytesCell, unnested } from "./columns.ts";
import type { Asker, Statement } from "./db.ts";
import type { DataKeyModel } from "./generated/models.ts";
import {
  type PrincipalFacts,
  type RowFacts,
  type TokenFacts,
  timeOrNull,
  toPrincipal,
  toRow,
  toToken,
} from "./read-ahead-rows.ts";
import { principalFacts, rowFacts, tokenFacts, whoAndWhere } from "./read-ahead-sql.ts";
import { toDataKeyRecord } from "./rows.ts";
import { missingVersion } from "./settings.ts";

/** Who presents it: hash, token, principal, provider, revision, stand-in. */
export function presentedCells(presented: PresentedToken): readonly Cell[] {
  if (presented.kind === "api") return [bytesCell(presented.hash), null, null, null, null, null];
  const { id, token_id, principal_id, provider } = presented.claims;
  if (token_id !== null) return [null, token_id, null, null, null, null];
  return [
    null,
    null,
    principal_id,
    provider?.id ?? null,
    provider === null ? null : String(provider.revision),
    id,
  ];
}

/** `unnest` of columns, with each row's place in `n`. */
const numbered = (columns: readonly Column<never>[]): string =>
  `${unnested(columns)} WITH ORDINALITY AS q (${columns.map(([name]) => name).join(", ")}, n)`;

type Numbered = { readonly n: string };

type Query<Ask, Row> = Statement & { readonly columns: readonly Column<Ask>[]; readonly row?: Row };

/** @param answerOf makes an answer of an ask's rows */
async function answered<Ask, Row extends Numbered, Answer>(
  db: Asker,
  { columns, ...statement }: Query<Ask, Row>,
  asks: readonly Ask[],
  answerOf: (rows: readonly Row[], ask: Ask) => Answer,
): Promise<readonly Answer[]> {
  const found = Map.groupBy(await db.query<Row>(statement, arraysOf(columns, asks)), ({ n }) => Number(n));
  return asks.map((ask, index) => answerOf(found.get(index + 1) ?? [], ask));
}

export type AdmitAsk = { readonly presented: PresentedToken; readonly owner: Owner | null };
type Presented = AdmitAsk & { readonly cells: readonly Cell[] };
type AdmitRow = {
  readonly n: string;
  readonly token_facts: TokenFacts | null;
  readonly principal_facts: PrincipalFacts;
  readonly tenant_id: string | null;
  readonly role_at_owner: Role | null;
  readonly role_at_organization: Role | null;
};
const presentedColumns: readonly Column<Presented>[] = [
  ["hash", "bytea", ({ cells }) => cells[0] ?? null],
  ["token", "uuid", ({ cells }) => cells[1] ?? null],
  ["principal", "uuid", ({ cells }) => cells[2] ?? null],
  ["provider", "uuid", ({ cells }) => cells[3] ?? null],
  ["revision", "int", ({ cells }) => cells[4] ?? null],
  ["owner_type", "text", ({ owner }) => owner?.owner_type ?? null],
  ["owner_id", "uuid", ({ owner }) => owner?.owner_id ?? null],
];
const admitStatement: Query<Presented, AdmitRow> = {
  columns: presentedColumns,
  name: "admit_many",
  text: `SELECT q.n, ${tokenFacts} AS token_facts, ${principalFacts} AS principal_facts, place.tenant_id,
      here.role AS role_at_owner, above.role AS role_at_organization
    FROM ${numbered(presentedColumns)} ${whoAndWhere}`,
};

/** As Store.admit, without looking whether the principal owns an organization. */
export function admitMany(db: Asker, notes: AccessNotes, asks: readonly AdmitAsk[]) {
  const presented = asks.map((ask) => ({ ...ask, cells: presentedCells(ask.presented) }));
  return answered(db, admitStatement, presented, ([row], { owner }): Admission | null => {
    if (row === undefined) return null;
    const { token_facts, tenant_id, role_at_owner, role_at_organization } = row;
    const principal = toPrincipal(row.principal_facts);
    const token = token_facts === null ? null : notes.overlayToken(toToken(token_facts, principal.id));
    if (owner === null || tenant_id === null)
      return { token, principal, standing: null, owns_an_organization: false };
    const { owner_type, owner_id } = owner;
    const standing = { owner: { owner_type, owner_id }, tenant_id, role_at_owner, role_at_organization };
    return { token, principal, standing, owns_an_organization: false };
  });
}

export type Spot = { readonly key: OwnerKey; readonly path: SettingPath };
export const spotColumns: readonly Column<Spot>[] = [
  ["tenant_id", "uuid", ({ key }) => key.tenant_id],
  ["owner_type", "text", ({ key }) => key.owner_type],
  ["owner_id", "uuid", ({ key }) => key.owner_id],
  ["path", "text", ({ path }) => path],
];
export const atSpot = (table: string): string =>
  `${table}.tenant_id = q.tenant_id AND ${table}.owner_type = q.owner_type AND ${table}.owner_id = q.owner_id
      AND ${table}.path = q.path`;
type SettingRowFacts = Numbered & { readonly facts: Facts };
type Facts = readonly [...RowFacts, deleted_at: string | null, purge_at: string | null];
const settingStatement: Query<Spot, SettingRowFacts> = {
  columns: spotColumns,
  name: "setting_many",
  text: `SELECT q.n, ${rowFacts("encode(v.sealed, 'hex')", "s.deleted_at", "s.purge_at")} AS facts
    FROM ${numbered(spotColumns)} CROSS JOIN LATERAL (SELECT * FROM settings s WHERE s.tenant_id = q.tenant_id
      AND s.owner_type = q.owner_type AND s.owner_id = q.owner_id AND ${atPath("q.path")}) s ${withVersion}`,
};

/** As Reader.setting. */
export function settingMany(db: Asker, notes: AccessNotes, asks: readonly Spot[]) {
  return answered(db, settingStatement, asks, ([row], { key }): SettingRow | null => {
    if (row === undefined) return null;
    const [deleted, purge] = row.facts.slice(-2) as [string | null, string | null];
    const ended = { deleted_at: timeOrNull(deleted), purge_at: timeOrNull(purge) };
    // No row of a version was there to join: nor is there a MAC of one.
    const isMissing = (row.facts[16] as number | null) === null;
    const facts = (isMissing ? row.facts.with(25, "") : row.facts) as unknown as RowFacts;
    const whole = toRow(facts, key.tenant_id, { owner: key }, ended);
    if (isMissing) return { setting: whole.setting, version: missingVersion(whole.setting) };
    return notes.overlay(whole);
  });
}

const ownerColumns: readonly Column<OwnerKey>[] = [
  ["tenant_id", "uuid", ({ tenant_id }) => tenant_id],
  ["owner_id", "uuid", ({ owner_id }) => owner_id],
];
type ManagersRow = Numbered & Owner & Placement;
const managersStatement: Query<OwnerKey, ManagersRow> = {
  columns: ownerColumns,
  name: "owner_managers_many",
  text: `SELECT q.n, m.owner_type, m.owner_id, m.storage, m.manager FROM ${numbered(ownerColumns)}
    JOIN owner_managers m ON m.tenant_id = q.tenant_id AND m.owner_id IN (q.owner_id, q.tenant_id)`,
};

/** As Reader.ownerManagers. */
export function ownerManagersMany(db: Asker, asks: readonly OwnerKey[]) {
  return answered(db, managersStatement, asks, (rows, key): OwnerManagers => {
    if (key.owner_type === "user") return { own: null, organization: null };
    const of = (type: OwnerType, id: string): Placement | null => {
      const row = rows.find(({ owner_type, owner_id }) => owner_type === type && owner_id === id);
      return row === undefined ? null : { storage: row.storage, manager: row.manager };
    };
    const own = of(key.owner_type, key.owner_id);
    return { own, organization: key.owner_type === "project" ? of("organization", key.tenant_id) : null };
  });
}

export type DataKeyAsk = { readonly key: OwnerKey; readonly manager: ManagerName };
const dataKeyColumns: readonly Column<DataKeyAsk>[] = [
  ["tenant_id", "uuid", ({ key }) => key.tenant_id],
  ["owner_type", "text", ({ key }) => key.owner_type],
  ["owner_id", "uuid", ({ key }) => key.owner_id],
  ["manager", "text", ({ manager }) => manager],
];
type DataKeyRow = Numbered & DataKeyModel;
const dataKeyStatement: Query<DataKeyAsk, DataKeyRow> = {
  columns: dataKeyColumns,
  name: "newest_data_key_many",
  text: `SELECT q.n, k.* FROM ${numbered(dataKeyColumns)} CROSS JOIN LATERAL (
      SELECT * FROM data_keys d WHERE d.tenant_id = q.tenant_id AND d.owner_type = q.owner_type
        AND d.owner_id = q.owner_id AND d.manager = q.manager
      ORDER BY d.generation DESC LIMIT 1) k`,
};

/** As KeyStore.newestDataKey. */
export function newestDataKeyMany(db: Asker, asks: readonly DataKeyAsk[]) {
  return answered(db, dataKeyStatement, asks, ([row]): DataKeyRecord | null =>
    // Plain bytes, as Prisma gives them.
    row === undefined ? null : toDataKeyRecord({ ...row, wrapped: new Uint8Array(row.wrapped) }),
  );
}
