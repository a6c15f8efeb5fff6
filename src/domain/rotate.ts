// Rotation: a new version from a generator or from the caller, an overlap in which the old one stays readable, and its
// end. With a hook the new version is pending first: the old one stays current until whoever runs the upstream system
// has confirmed. What is current changes in one transaction, so whatever dies, either the old or the new one is.
import { type Owner, type SettingPath, parseSettingPath, typeOfPath } from "./address.ts";
import { type Caller, keyOf } from "./admission.ts";
import { BrokerError, badInput, conflict } from "./errors.ts";
import type { Gate } from "./gate.ts";
import type { Generator, RotationRecord, ValueGenerator, WebhookRecord } from "./lifecycle-ports.ts";
import { liveRow, subjectOf } from "./opening.ts";
import type { ManagedSecrets } from "./managed-secrets.ts";
import { afterActivation, later } from "./overlap.ts";
import { type Plaintext, checkValue } from "./plaintext.ts";
import type { NewId, OwnerKey, Reader } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import type { Setting, SettingRecord, SettingRow } from "./setting.ts";
import {
  type AddressInput,
  type Content,
  type SettingChange,
  type Writing,
  shown,
  touched,
} from "./setting-change.ts";
import type { Done } from "./steps.ts";
import { contentOf, createVersionContents } from "./version-content.ts";

const SHOWN_MAX = 100;

export type RotateInput = AddressInput & {
  readonly source:
    | { readonly kind: "value"; readonly value: unknown }
    | { readonly kind: "generator"; readonly generator: Generator };
  readonly overlap_seconds: number;
  readonly destroy_old: boolean;
  readonly hook: { readonly webhook_id: string; readonly confirm_within_seconds: number } | null;
};
export type Rotation = {
  readonly id: string;
  readonly state: RotationRecord["state"];
  readonly old_version: number;
  readonly new_version: number;
  readonly overlap_seconds: number;
  readonly destroy_old: boolean;
  readonly public_key: string | null;
  readonly webhook_id: string | null;
  readonly confirm_by: string | null;
  readonly attempts: number;
  readonly reason: string | null;
  readonly created_at: string;
  readonly created_by: string;
  readonly activated_at: string | null;
  readonly ended_at: string | null;
};
/** `plaintext` throws what is wrong with the value: after all that comes before it. */
type Sourced = { readonly plaintext: () => Plaintext; readonly public_part: string | null };
export type RotateAnswer = { readonly rotation: Rotation; readonly setting: Setting };

export function createRotate(
  gate: Gate,
  { changeAt, current, addVersion, addPending }: SettingChange,
  vault: Vault,
  managed: Pick<ManagedSecrets, "during">,
  values: ValueGenerator,
  newId: NewId,
) {
  const contents = createVersionContents(vault);

  function toView(record: RotationRecord): Rotation {
    const time = (date: Date | null): string | null => date?.toISOString() ?? null;
    const { id, state, old_version, new_version, overlap_seconds, destroy_old } = record;
    const { webhook_id, attempts, reason, created_by } = record;
    return {
      id,
      state,
      old_version,
      new_version,
      overlap_seconds,
      destroy_old,
      public_key: publicKeyOf(record),
      webhook_id,
      confirm_by: time(record.confirm_by),
      attempts,
      reason,
      created_at: record.created_at.toISOString(),
      created_by,
      activated_at: time(record.activated_at),
      ended_at: time(record.ended_at),
    };
  }

  /** @throws BrokerError `manager_failed` for one that no broker wrote: somebody might trust it */
  function publicKeyOf({ public_part, setting_id, new_version, path }: RotationRecord): string | null {
    if (public_part === null) return null;
    try {
      return values.openPublicPart(setting_id, new_version, public_part);
    } catch (error) {
      const detail = "The stored public key was altered outside the broker.";
      throw new BrokerError("manager_failed", detail, { paths: [path] }, error);
    }
  }

  /** The value, made once and outside any transaction: a long key takes its time. What is wrong is told later. */
  async function sourced(path: SettingPath, { source }: RotateInput, tenantId: string): Promise<Sourced> {
    const type = typeOfPath(path);
    if (source.kind === "value")
      return { plaintext: () => checkValue(type, source.value), public_part: null };
    if (type !== "custom") {
      const detail = `A generator makes custom values; give a value of the type ${type}.`;
      const error = badInput("invalid_value", "body", "/generator", detail);
      return {
        plaintext: () => {
          throw error;
        },
        public_part: null,
      };
    }
    const { value, public_part } = await values.generate(source.generator, tenantId);
    return { plaintext: () => checkValue(type, value), public_part };
  }

  /** Whether it may be, before a value is made. Under the path's lock, like all that decides over it. */
  async function fit(writing: Writing, input: RotateInput) {
    const live = await current(writing, input);
    const { tx, grant, key, path } = writing;
    if (input.destroy_old) grant.require("destroy", path);
    const { storage, manager } = live.version;
    if (storage === "external")
      throw conflict(
        "An external setting is never written to: rotate it where it is, or point it elsewhere.",
      );
    const [latest] = await tx.rotationsOf(live.setting, 1);
    if (latest?.state === "pending") throw conflict("A rotation of this setting waits for its hook.");
    const webhook = input.hook === null ? null : await hookOf(tx, key, input.hook.webhook_id);
    return { live, webhook, placement: { storage, manager } };
  }

  async function plan(writing: Writing, input: RotateInput, made: Sourced) {
    const { live, webhook, placement } = await fit(writing, input);
    const value = { setting_id: live.setting.id, placement, value: made.plaintext() };
    return { live, webhook, value };
  }

  function begun({ grant, key, path }: Writing, input: RotateInput, setting_id: string) {
    const { overlap_seconds, destroy_old } = input;
    const { tenant_id, owner_type, owner_id } = key;
    return {
      tenant_id,
      id: newId(),
      owner_type,
      owner_id,
      path,
      setting_id,
      overlap_seconds,
      destroy_old,
      attempts: 0,
      reason: null,
      created_at: grant.at,
      created_by: grant.principal.id,
    };
  }

  const sealedPart = (
    { public_part }: Sourced,
    setting: SettingRecord,
    version: number,
  ): Uint8Array | null =>
    public_part === null ? null : values.sealPublicPart(setting.id, version, public_part);

  async function rotateNow(
    writing: Writing,
    input: RotateInput,
    live: SettingRow,
    content: Content,
    made: Sourced,
  ): Promise<Done<RotateAnswer>> {
    const { grant, tx } = writing;
    const row = await addVersion(writing, content, touched(live.setting, grant, {}), false);
    const new_version = row.version.version;
    const rotation: RotationRecord = {
      ...begun(writing, input, live.setting.id),
      old_version: live.version.version,
      new_version,
      public_part: sealedPart(made, live.setting, new_version),
      webhook_id: null,
      confirm_by: null,
      ...afterActivation(input, grant.at),
    };
    await tx.insertRotation(rotation);
    const details = { change: "version_added", rotation_id: rotation.id };
    return {
      result: { rotation: toView(rotation), setting: shown(row) },
      subjects: [subjectOf(row)],
      details,
    };
  }

  async function rotateLater(
    writing: Writing,
    input: RotateInput,
    live: SettingRow,
    content: Content,
    made: Sourced,
    webhook_id: string,
  ): Promise<Done<RotateAnswer>> {
    const { grant, tx } = writing;
    const { version: new_version } = await addPending(writing, content, live.setting);
    const rotation: RotationRecord = {
      ...begun(writing, input, live.setting.id),
      old_version: live.version.version,
      new_version,
      public_part: sealedPart(made, live.setting, new_version),
      state: "pending",
      webhook_id,
      confirm_by: later(grant.at, input.hook?.confirm_within_seconds ?? 0),
      next_at: grant.at,
      activated_at: null,
      ended_at: null,
    };
    await tx.insertRotation(rotation);
    const subject = { ...subjectOf(live), version: new_version };
    return {
      result: { rotation: toView(rotation), setting: shown(live) },
      subjects: [subject],
      details: { change: "rotation_begun", rotation_id: rotation.id },
      happenings: [{ kind: "setting.rotation_pending", ...subject }],
    };
  }

  return {
    async rotate(caller: Caller, input: RotateInput): Promise<RotateAnswer> {
      const path = parseSettingPath(input.path);
      let made: Sourced | null = null;
      return managed.during((session) =>
        changeAt(
          caller,
          "write",
          input,
          async (at) => {
            const found = await at.reader.setting(at.key, at.path);
            if (found?.version.storage === "manager") await session.enter(at);
            const placement = found === null || found.version.storage === "external" ? null : found.version;
            const known = { permit: at.permit, value: null };
            // Once, and for nobody who is refused: a key of RSA takes the processor for a second.
            if (made === null && input.source.kind === "generator")
              await at.stage((writing) => fit(writing, input));
            const source = (made ??= await sourced(path, input, at.key.tenant_id));
            const decide = async (writing: Writing) => (await plan(writing, input, source)).value;
            const prepared = await contents.prepare(at, session, known, placement, null, decide);
            return { prepared, made: source };
          },
          async (writing, { prepared, made }) => {
            const { live, webhook, value } = await plan(writing, input, made);
            const content = contentOf(prepared, value);
            return webhook === null
              ? rotateNow(writing, input, live, content, made)
              : rotateLater(writing, input, live, content, made, webhook.id);
          },
        ),
      );
    },

    /** A setting's rotations, newest first. */
    rotations(caller: Caller, owner: Owner, pathText: string): Promise<{ rotations: readonly Rotation[] }> {
      const path = parseSettingPath(pathText);
      return gate.read(
        caller,
        { ask: { action: "list", path, breadth: "whole" }, place: { kind: "owner", owner } },
        async (grant, reader) => {
          const { setting } = await liveRow(reader, vault, keyOf(grant), path);
          const subjects = [{ id: setting.id, path, version: null }];
          return { found: await reader.rotationsOf(setting, SHOWN_MAX), subjects };
        },
        async (found) => ({ rotations: found.map(toView) }),
      );
    },
  };
}

/** The owner's own webhook, or one of the organization above. @throws BrokerError `invalid_value` */
async function hookOf(reader: Pick<Reader, "webhook">, key: OwnerKey, id: string): Promise<WebhookRecord> {
  const above: OwnerKey = { owner_type: "organization", owner_id: key.tenant_id, tenant_id: key.tenant_id };
  const webhook =
    (await reader.webhook(key, id)) ??
    (key.owner_type === "project" ? await reader.webhook(above, id) : null);
  if (webhook === null || webhook.disabled_at !== null)
    throw badInput(
      "invalid_value",
      "body",
      "/hook/webhook_id",
      "There is no such webhook here, or it is disabled.",
    );
  return webhook;
}
