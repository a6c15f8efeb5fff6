// What a new version will hold, got ready before the transaction that writes it: an owner's data key, a value that a
// manager has taken, or a pointer that was read once. Under the lock it is seen whether that still fits what is to be
// written; where it does not, the write starts over.
import { typeOfPath } from "./address.ts";
import { type Grant, keyOf } from "./admission.ts";
import { BrokerError, conflict } from "./errors.ts";
import { notPointable } from "./external.ts";
import type { Deposit, Deposition, Session } from "./managed-secrets.ts";
import type { CloudName } from "./manager-ports.ts";
import type { Plaintext } from "./plaintext.ts";
import type { Opened, Permit, Pointer, Sealer, Vault } from "./sealing-ports.ts";
import type { Content, Preparing, Writing } from "./setting-change.ts";
import type { Location, ManagerName, Placement, SettingRow } from "./setting.ts";
import { Stale } from "./steps.ts";

/** A version's value, opened before the transaction, or why it could not be; null when none was wanted. */
export type Known = {
  readonly permit: Permit;
  readonly value: {
    readonly setting_id: string;
    readonly version: number;
    readonly opened: Plaintext | BrokerError;
  } | null;
};

/** What our secrets are named by, in a name of any form. */
const ID = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g;

export type Prepared = {
  readonly known: Known;
  /** Null for a manager whose key was not got ready. */
  readonly sealerFor: (manager: ManagerName) => Sealer | null;
  readonly deposit: Deposit | null;
  readonly pointed: { readonly manager: CloudName; readonly location: Location } | BrokerError | null;
};

/** What is to be written, decided under the lock. */
export type NewValue = {
  readonly setting_id: string;
  readonly placement: Placement;
  readonly value: Plaintext | "pointer";
};

export function createVersionContents(vault: Vault) {
  const nothing: Omit<Prepared, "known"> = { sealerFor: () => null, deposit: null, pointed: null };

  /** What the new version needs if it goes where it seems to go; `intend` decides that under the lock. */
  async function prepare(
    at: Preparing,
    session: Session,
    known: Known,
    placement: Placement | null,
    pointer: Pointer | null,
    intend: (writing: Writing) => Promise<NewValue | null>,
  ): Promise<Prepared> {
    if (placement === null || !vault.isUsable(placement.manager)) return { known, ...nothing };
    const { storage, manager } = placement;
    switch (storage) {
      case "envelope": {
        // A key may have to be made in a manager, which a write that will be refused is not to bring about, or wait for.
        const isWarm = vault.sealerInMemory(at.permit, at.key, manager) !== null;
        if (!isWarm && (await at.stage(intend)) === null) return { known, ...nothing };
        const sealer = await vault.sealer(at.permit, at.key, manager);
        return { known, ...nothing, sealerFor: (each) => (each === manager ? sealer : null) };
      }
      case "manager": {
        // A manager that was just found to be away is not waited for a second time; what comes before that is told.
        const opened = known.value?.opened;
        if (opened instanceof BrokerError && opened.code === "unavailable") {
          await at.stage(intend);
          throw opened;
        }
        const deposit = await session.deposit(at, async (writing) => depositionOf(await intend(writing)));
        return { known, ...nothing, deposit };
      }
      case "external":
        return { known, ...nothing, pointed: await point(at, pointer) };
    }
  }

  /** A failure is told under the lock, after what comes before it. */
  async function point(at: Preparing, pointer: Pointer | null): Promise<Prepared["pointed"]> {
    if (pointer === null || at.grant.decide("manage", at.path).verdict === "deny") return null;
    try {
      const { manager } = pointer;
      // Whatever their names began with when they were made.
      if (await isOurs(at, pointer)) throw notPointable();
      return {
        manager,
        location: await vault.clouds.point(at.permit, at.key.tenant_id, pointer, typeOfPath(at.path)),
      };
    } catch (error) {
      if (error instanceof BrokerError) return error;
      throw error;
    }
  }

  async function isOurs({ reader }: Preparing, { address }: Pointer): Promise<boolean> {
    const name = "resource" in address ? address.resource : address.secret_id;
    const ids = name.toLowerCase().match(ID) ?? [];
    const known = await Promise.all(ids.map((id) => reader.isOurSecret(id)));
    return known.includes(true);
  }

  return {
    prepare,

    /** What there is of it without asking anybody: what is in memory, for values in envelopes. */
    atOnce(grant: Grant, permit: Permit): Prepared {
      const sealerFor = (manager: ManagerName): Sealer | null =>
        vault.sealerInMemory(permit, keyOf(grant), manager);
      return { known: { permit, value: null }, ...nothing, sealerFor };
    },

    /** A version's value, for comparing it or for writing it once more. */
    async known({ permit }: Preparing, row: SettingRow | null): Promise<Known> {
      if (row === null) return { permit, value: null };
      const [result] = await vault.open(permit, [row]);
      const { setting, version } = row;
      return {
        permit,
        value: { setting_id: setting.id, version: version.version, opened: openedOf(result) },
      };
    },

    /** The value of a row found under the lock. @throws Stale when it is another's, and not in memory */
    valueOf({ permit, value }: Known, row: SettingRow): Plaintext | BrokerError {
      const { setting, version } = row;
      if (value?.setting_id === setting.id && value.version === version.version) return value.opened;
      const result = vault.openInMemory(permit, row);
      if (result === null) throw new Stale();
      return openedOf(result);
    },
  };
}

function depositionOf(wanted: NewValue | null): Deposition | null {
  if (wanted === null) return null;
  const { setting_id, placement, value } = wanted;
  if (placement.storage !== "manager" || placement.manager === "local" || value === "pointer") return null;
  return { setting_id, manager: placement.manager, plaintext: value };
}

/**
 * What was prepared, as the content of what is to be written.
 * @throws Stale when it was prepared for something else; what kept a pointer from being read
 */
export function contentOf(prepared: Prepared, { setting_id, placement, value }: NewValue): Content {
  const { storage, manager } = placement;
  switch (storage) {
    case "envelope": {
      const sealer = prepared.sealerFor(manager);
      if (value === "pointer" || sealer === null) throw new Stale();
      return { storage, manager, sealer, plaintext: value };
    }
    case "manager": {
      const { deposit } = prepared;
      const fits = deposit !== null && deposit.setting_id === setting_id && deposit.manager === manager;
      if (!fits || value === "pointer" || !deposit.plaintext.equals(value)) throw new Stale();
      return { storage, manager: deposit.manager, deposit };
    }
    case "external": {
      const { pointed } = prepared;
      if (pointed instanceof BrokerError) throw pointed;
      if (value !== "pointer") throw neverWritten();
      if (pointed === null || pointed.manager !== manager) throw new Stale();
      return { storage, manager: pointed.manager, location: pointed.location };
    }
  }
}

export function neverWritten(): BrokerError {
  return conflict(
    "An external setting is never written to: point it elsewhere, or say where the value is to go.",
  );
}

function openedOf(result: Opened | undefined): Plaintext | BrokerError {
  if (result?.kind === "opened") return result.plaintext;
  return result?.error ?? new BrokerError("internal", "A value was not answered.");
}
