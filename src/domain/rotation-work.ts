// What becomes of a rotation when nobody is there: hooks are asked, pending versions become current or fall away, and
// old ones are destroyed once nobody reads them any more. Any number of replicas share the work; each step is one
// transaction, and a network call is made between two of them: whoever dies there leaves it to the next, who asks the
// hook again, with the same id.
import type { SettingPath } from "./address.ts";
import type { Subject } from "./audit.ts";
import type { Happening } from "./change-events.ts";
import type { Gate } from "./gate.ts";
import type { Reply, RotationRecord, WebhookRecord, WebhookSender } from "./lifecycle-ports.ts";
import { afterActivation, later, quietAt } from "./overlap.ts";
import { lockPath } from "./path-lock.ts";
import type { OwnerKey, Transaction } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";
import type { SettingRecord, VersionRecord } from "./setting.ts";
import { ended } from "./settings-remove.ts";
import type { Done } from "./steps.ts";

const LEASE_SECONDS = 20;
const IN_FLIGHT_MAX = 32;
const BACKOFF_SECONDS = [5, 15, 60, 180, 300] as const;
const RETRY_ALTERED_SECONDS = 3_600;

type Outcome = Done<true> & { readonly key: OwnerKey };
type Hook = { readonly rotation: RotationRecord; readonly webhook: WebhookRecord };

const keyOf = ({ tenant_id, owner_type, owner_id }: RotationRecord): OwnerKey => {
  return { tenant_id, owner_type, owner_id };
};

export function createRotationWork(gate: Gate, vault: Vault, sender: Pick<WebhookSender, "send">) {
  const underWay = new Set<Promise<unknown>>();

  /** The version's value is gone for ever. */
  async function destroy(tx: Transaction, setting: SettingRecord, version: VersionRecord): Promise<void> {
    await tx.updateVersion(vault.signVersion(setting, ended(version)));
    if (version.storage === "manager") await tx.unsettle(setting.tenant_id, setting.id);
  }

  /** The rotation's setting under its path's lock; null where it is no more, or another. */
  async function locked(tx: Transaction, rotation: RotationRecord) {
    const path = rotation.path as SettingPath;
    await lockPath(tx, vault, keyOf(rotation), path);
    const row = await tx.setting(keyOf(rotation), path);
    return row?.setting.id === rotation.setting_id ? row : null;
  }

  function outcome(
    rotation: RotationRecord,
    version: number,
    change: string,
    kind: Happening["kind"] | null,
    reason: string | null = null,
  ): Outcome {
    const subject: Subject = { id: rotation.setting_id, path: rotation.path, version };
    const told = { rotation_id: rotation.id, ...(reason === null ? {} : { reason }) };
    return {
      result: true,
      key: keyOf(rotation),
      subjects: [subject],
      details: { change, ...told },
      happenings: kind === null ? [] : [{ kind, ...subject, details: told }],
    };
  }

  /** The pending version goes; what was current stays so. */
  async function fallBack(
    tx: Transaction,
    rotation: RotationRecord,
    reason: string,
    now: Date,
  ): Promise<Outcome> {
    const row = await locked(tx, rotation);
    const pending = row === null ? null : await tx.version(row.setting, rotation.new_version);
    const isLeft = pending?.state === "enabled" && row?.setting.current_version !== pending.version;
    if (row !== null) {
      if (isLeft && vault.isGenuine({ setting: row.setting, version: pending }))
        await destroy(tx, row.setting, pending);
      // Else nothing is signed: the sweeper sees whether any row still points at the new value.
      else await tx.unsettle(row.setting.tenant_id, row.setting.id);
    }
    await tx.updateRotation({ ...rotation, state: "fallen_back", reason, next_at: null, ended_at: now });
    return outcome(rotation, rotation.new_version, "rotation_failed", "setting.rotation_failed", reason);
  }

  async function activate(tx: Transaction, rotation: RotationRecord, now: Date): Promise<Outcome> {
    const row = await locked(tx, rotation);
    if (row === null || row.setting.deleted_at !== null) return fallBack(tx, rotation, "deleted", now);
    const { setting } = row;
    if (setting.current_version !== rotation.old_version) return fallBack(tx, rotation, "superseded", now);
    const pending = await tx.version(setting, rotation.new_version);
    if (pending?.state !== "enabled") return fallBack(tx, rotation, "destroyed", now);
    // A broker never signs anew what it did not sign before.
    if (!vault.isGenuine(row) || !vault.isGenuine({ setting, version: pending }))
      return fallBack(tx, rotation, "altered", now);
    const stamp = { updated_at: now, updated_by: rotation.created_by, revision: setting.revision + 1 };
    const moved = { current_version: pending.version, current_since: now };
    await tx.updateSetting(vault.signSetting({ ...setting, ...stamp, ...moved }));
    if (pending.storage === "manager") await tx.unsettle(setting.tenant_id, setting.id);
    await tx.updateRotation({ ...rotation, ...afterActivation(rotation, now) });
    return outcome(rotation, pending.version, "version_added", "setting.version_added");
  }

  /** Takes one rotation that waits for its hook; ends it when its time is over. */
  function takeHook(): Promise<Hook | "ended" | null> {
    return gate.housekeep<Hook | "ended">(
      "askRotationHook",
      async (tx, now) => {
        vault.assertInForce(await tx.keyCheckNow());
        const rotation = await tx.lockDueRotation("pending", now);
        if (rotation === null) return null;
        const webhook = await webhookOf(tx, rotation);
        const isLate = rotation.confirm_by === null || rotation.confirm_by <= now;
        if (isLate || webhook === null || webhook.disabled_at !== null) {
          const reason = isLate ? (rotation.reason ?? "not_confirmed") : "no_webhook";
          return { ...(await fallBack(tx, rotation, reason, now)), result: "ended" as const };
        }
        const taken = { ...rotation, attempts: rotation.attempts + 1, next_at: later(now, LEASE_SECONDS) };
        await tx.updateRotation(taken);
        const asked = outcome(rotation, rotation.new_version, "rotation_hook_asked", null);
        return { ...asked, result: { rotation: taken, webhook } };
      },
      (now) => ({ kind: "rotation", state: "pending", now }),
    );
  }

  /** What the hook's answer makes of the rotation, if it is still this attempt's. */
  function settleHook({ rotation: taken }: Hook, reply: Reply): Promise<true | null> {
    return gate.housekeep("settleRotationHook", async (tx, now) => {
      await lockPath(tx, vault, keyOf(taken), taken.path as SettingPath);
      const rotation = await tx.rotation(taken.tenant_id, taken.id);
      if (rotation?.state !== "pending" || rotation.attempts !== taken.attempts) return null;
      const verdict = verdictOf(reply);
      if (verdict === "confirmed") return activate(tx, rotation, now);
      if (verdict === "refused") return fallBack(tx, rotation, "refused", now);
      const wait = BACKOFF_SECONDS[rotation.attempts - 1] ?? BACKOFF_SECONDS[BACKOFF_SECONDS.length - 1] ?? 0;
      const until = rotation.confirm_by ?? now;
      const again = later(now, wait);
      await tx.updateRotation({ ...rotation, reason: verdict, next_at: again < until ? again : until });
      return null;
    });
  }

  return {
    /** Asks the hooks that are due and there is room for; answers how many. Does not wait for what they say. */
    async askRotationHooks(onError: (error: unknown) => void): Promise<number> {
      for (let asked = 0; ; asked++) {
        const hook = underWay.size < IN_FLIGHT_MAX ? await takeHook() : null;
        if (hook === null) return asked;
        if (hook === "ended") continue;
        const { rotation, webhook } = hook;
        const { id, url, sealed } = webhook;
        const message = { id: rotation.id, url, webhook_id: id, sealed, body: bodyOf(rotation) };
        const work: Promise<unknown> = sender
          .send(message)
          .then((reply) => settleHook(hook, reply))
          .catch(onError)
          .finally(() => underWay.delete(work));
        underWay.add(work);
      }
    },

    /** Resolves when what hooks said is settled. */
    async rotationHooksDrained(): Promise<void> {
      await Promise.all(underWay);
    },

    /** Destroys old versions that nobody has read for a whole overlap; answers how many. */
    async retireOldVersions(limit: number): Promise<number> {
      for (let count = 0; ; count++) {
        if (count === limit) return count;
        const done = await gate.housekeep(
          "retireOldVersion",
          async (tx, now) => {
            const rotation = await tx.lockDueRotation("overlap", now);
            if (rotation === null) return null;
            const end = { ...rotation, state: "done" as const, next_at: null, ended_at: now };
            const row = await locked(tx, rotation);
            const old = row === null ? null : await tx.version(row.setting, rotation.old_version);
            if (row === null || old?.state !== "enabled" || old.version === row.setting.current_version) {
              await tx.updateRotation({ ...end, reason: "gone" });
              return outcome(rotation, rotation.old_version, "rotation_ended", null);
            }
            // Where the current version is not ours, the old one may be the last good value.
            const isOurs = vault.isGenuine(row) && vault.isGenuine({ setting: row.setting, version: old });
            const waitUntil = isOurs ? quietAt(rotation, old) : later(now, RETRY_ALTERED_SECONDS);
            if (waitUntil > now) {
              await tx.updateRotation({ ...rotation, next_at: waitUntil });
              return postponed(rotation);
            }
            await destroy(tx, row.setting, old);
            const touched = { ...row.setting, updated_at: now, revision: row.setting.revision + 1 };
            await tx.updateSetting(vault.signSetting(touched));
            await tx.updateRotation(end);
            return outcome(rotation, old.version, "version_destroyed", "setting.version_destroyed");
          },
          (now) => ({ kind: "rotation", state: "overlap", now }),
        );
        if (done === null) return count;
      }
    },
  };
}

/** On record too: an old version that should go and does not. */
function postponed(rotation: RotationRecord): Outcome {
  const { setting_id: id, path, old_version: version } = rotation;
  const details = { change: "retirement_postponed", rotation_id: rotation.id };
  return { result: true, key: keyOf(rotation), subjects: [{ id, path, version }], details, happenings: [] };
}

async function webhookOf(tx: Transaction, rotation: RotationRecord): Promise<WebhookRecord | null> {
  const key = keyOf(rotation);
  const above: OwnerKey = { owner_type: "organization", owner_id: key.tenant_id, tenant_id: key.tenant_id };
  const id = rotation.webhook_id ?? "";
  return (await tx.webhook(key, id)) ?? (key.owner_type === "project" ? tx.webhook(above, id) : null);
}

function bodyOf(rotation: RotationRecord): string {
  const { id, owner_type, owner_id, setting_id, path, old_version, new_version, confirm_by } = rotation;
  return JSON.stringify({
    type: "setting.rotation_requested",
    timestamp: rotation.created_at.toISOString(),
    data: {
      rotation_id: id,
      owner_type,
      owner_id,
      setting_id,
      path,
      old_version,
      new_version,
      confirm_by: confirm_by?.toISOString() ?? null,
    },
  });
}

/** `{"confirmed": true}` with a 2xx, or a refusal in so many words; all else may be otherwise the next time. */
function verdictOf({ status, flaw, body }: Reply): "confirmed" | "refused" | "not_confirmed" | "no_answer" {
  if (status === null || flaw !== null) return "no_answer";
  if (status < 200 || status >= 300) return "not_confirmed";
  try {
    const said = JSON.parse(body) as { readonly confirmed?: unknown } | null;
    if (said?.confirmed === true) return "confirmed";
    return said?.confirmed === false ? "refused" : "not_confirmed";
  } catch {
    return "not_confirmed";
  }
}
