// The strict read: one value, or an error. Never a row without its value, so that a client can branch on the status.
import { type Owner, type SettingPath, type SettingType, parseSettingPath, typeOfPath } from "./address.ts";
import { type Caller, keyOf } from "./admission.ts";
import { BrokerError, badInput, notFound } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Found } from "./steps.ts";
import {
  assertGenuine,
  assertPinned,
  atVersion,
  liveRow,
  matchesAny,
  openOne,
  subjectOf,
} from "./opening.ts";
import { FIELDS, type SettingValue } from "./plaintext.ts";
import type { OwnerKey, Reader, Store } from "./ports.ts";
import type { Plan } from "./read-ahead.ts";
import type { Vault } from "./sealing-ports.ts";
import { type SettingRow, etagOf, followsLatest, isExpired } from "./setting.ts";

export type ValueInput = {
  readonly owner: Owner;
  readonly path: string;
  readonly version?: number;
  readonly field?: string;
  readonly as: "json" | "text";
  readonly if_none_match: readonly string[];
};

export type ValueAnswer =
  | { readonly status: "not_modified"; readonly etag: string }
  | {
      readonly status: "ok";
      readonly etag: string;
      readonly path: string;
      readonly type: SettingType;
      readonly version: number;
      /** The whole value, or the one field that was asked for. */
      readonly value: SettingValue | boolean;
    };

export function createValueRead(gate: Gate, vault: Vault, store: Pick<Store, "noteAccess">) {
  return {
    async value(caller: Caller, input: ValueInput): Promise<ValueAnswer> {
      const path = parseSettingPath(input.path);
      const need = {
        ask: { action: "decrypt" as const, path, breadth: "whole" as const },
        place: { kind: "owner" as const, owner: input.owner },
      };
      return gate.read(
        caller,
        need,
        async (grant, reader): Promise<Found<SettingRow>> => {
          const version = input.version ?? null;
          const versioned = await strictRow(reader, vault, keyOf(grant), path, version, grant.at);
          assertFieldFits(versioned.setting.type, input);
          return { found: versioned, subjects: [subjectOf(versioned)] };
        },
        async (row, permit, grant) => {
          // Whether there is such a field is in the value alone: who knows the last part was given it.
          const part = input.field === undefined ? [] : [input.field, vault.tagOf(row, input.field)];
          const body = ["opened", input.as, ...part].join(".");
          const follows = followsLatest(row.version);
          const noted = (): void => store.noteAccess([row], grant.at, grant.principal.id);
          if (!follows && matchesAny(etagOf(row, body), input.if_none_match))
            if (vault.isGenuine(row) && vault.isAllowed(row)) {
              noted();
              return { status: "not_modified" as const, etag: etagOf(row, body) };
            }
          const plaintext = await openOne(vault, permit, row);
          const value = fieldOf(plaintext.reveal(), input.field);
          noted();
          const etag = etagOf(row, follows ? `${body}.${vault.tagOf(row, plaintext.json())}` : body);
          const { path: at, type } = row.setting;
          return { status: "ok" as const, etag, path: at, type, version: row.version.version, value };
        },
        planOf(input, path),
      );
    },
  };
}

/** A value as a whole and as it is now. What may not fit the type is asked for step by step. */
function planOf({ version, field, as }: ValueInput, path: SettingPath): Plan | null {
  const fits = field === undefined && (as === "json" || typeOfPath(path) === "custom");
  if (version !== undefined || !fits) return null;
  return { select: { kind: "at", path, match: "exact" }, action: "decrypt", strict: true, limit: 1 };
}

/**
 * The setting that a strict read is about, at a version (null: the current one), fit to be opened.
 * @throws BrokerError `not_found`, `expired`, `destroyed`, `conflict` for a number of one that follows, or `manager_failed` for a row that no broker wrote
 */
export async function strictRow(
  reader: Reader,
  vault: Vault,
  key: OwnerKey,
  path: SettingPath,
  version: number | null,
  now: Date,
): Promise<SettingRow> {
  const row = await liveRow(reader, vault, key, path);
  if (isExpired(row.setting, now)) {
    assertGenuine(vault, row);
    throw new BrokerError("expired", "This setting has expired.");
  }
  const versioned = await atVersion(reader, vault, key, row, version ?? row.setting.current_version);
  if (version !== null) assertPinned(versioned);
  return versioned;
}

/** The names of a type's fields: none where the value is one text. */
function fieldsOf(type: SettingType): readonly string[] {
  return type === "custom" ? [] : FIELDS[type].map(({ name }) => name);
}
export const hasField = (type: SettingType, field: string): boolean => fieldsOf(type).includes(field);

/** @throws BrokerError `invalid_value` for a field that the type has not */
export function assertFieldFits(type: SettingType, { field, as }: Pick<ValueInput, "field" | "as">): void {
  const bad = (detail: string): BrokerError => badInput("invalid_value", "query", "/field", detail);
  if (field === undefined) {
    if (as === "text" && type !== "custom") throw bad(`For plain text, name one field of the type ${type}.`);
    return;
  }
  const known = fieldsOf(type);
  if (!known.includes(field))
    throw bad(known.length === 0 ? "A custom value has no fields." : `The fields are ${known.join(", ")}.`);
}

/** The whole value, or one field of it. @throws BrokerError `not_found` for one that it has not */
export function fieldOf(value: SettingValue | undefined, field: string | undefined): SettingValue | boolean {
  if (value === undefined) throw new BrokerError("internal", "A value was not answered.");
  if (field === undefined || typeof value === "string") return value;
  const found = new Map<string, unknown>(Object.entries(value)).get(field);
  if (typeof found !== "string" && typeof found !== "boolean") throw notFound("The value has no such field.");
  return found;
}
