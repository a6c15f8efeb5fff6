// What rests under the master key beside settings and keys: webhooks' secrets, public parts of generated pairs, and the
// MACs of secrets in managers. While a master key is replaced each is put under the one in force; what was altered
// outside the broker is left, and keeps the replacement from ending.
import type { Gate } from "./gate.ts";
import type { ManagedSecret } from "./manager-ports.ts";
import type { Transaction } from "./ports.ts";
import type { Vault } from "./sealing-ports.ts";

const BATCH = 100;

export type SealedWebhook = { readonly id: string; readonly sealed: Uint8Array };
export type SealedPart = {
  readonly id: string;
  readonly setting_id: string;
  readonly new_version: number;
  readonly public_part: Uint8Array;
};

/** Rows in the order of their ids; a write finds the row as it was read, or does nothing. */
export type ResealStore = {
  webhooksAfter(id: string, limit: number): Promise<readonly SealedWebhook[]>;
  putWebhookSealed(was: SealedWebhook, sealed: Uint8Array): Promise<void>;
  publicPartsAfter(id: string, limit: number): Promise<readonly SealedPart[]>;
  putPublicPart(was: SealedPart, sealed: Uint8Array): Promise<void>;
  managedSecretsAfter(id: string, limit: number): Promise<readonly ManagedSecret[]>;
  putSecretMac(was: ManagedSecret, mac: Uint8Array): Promise<void>;
};

/** Puts sealed bytes under the master key in force: null for what is. @throws Error when none of the keys opens them */
export type LifecycleReseal = {
  readonly webhookSecret: { reseal(webhookId: string, sealed: Uint8Array): Uint8Array | null };
  readonly publicPart: {
    reseal(settingId: string, version: number, sealed: Uint8Array): Uint8Array | null;
  };
};

const FIRST = "00000000-0000-0000-0000-000000000000";

/** @returns how many could not be put under the master key in force */
export function createReseal(gate: Gate, vault: Vault, lifecycle: LifecycleReseal) {
  async function all<Row extends { readonly id: string }>(
    operation: string,
    after: (tx: Transaction, id: string) => Promise<readonly Row[]>,
    each: (tx: Transaction, row: Row) => Promise<boolean>,
  ): Promise<number> {
    const so = { far: FIRST, left: 0, isOver: false };
    const page = async (tx: Transaction): Promise<null> => {
      // Held to the end: what is written here is under the key that the database names.
      vault.signUnder(await tx.heldKeyCheck());
      const rows = await after(tx, so.far);
      for (const row of rows) if (!(await each(tx, row))) so.left += 1;
      so.far = rows.at(-1)?.id ?? so.far;
      so.isOver = rows.length < BATCH;
      return null;
    };
    while (!so.isOver) await gate.housekeep(operation, page);
    return so.left;
  }

  return async function reseal(): Promise<number> {
    const webhooks = await all(
      "resealWebhooks",
      (tx, id) => tx.webhooksAfter(id, BATCH),
      (tx, row) =>
        whole(async () => {
          const sealed = lifecycle.webhookSecret.reseal(row.id, row.sealed);
          if (sealed !== null) await tx.putWebhookSealed(row, sealed);
        }),
    );
    const parts = await all(
      "resealPublicParts",
      (tx, id) => tx.publicPartsAfter(id, BATCH),
      (tx, row) =>
        whole(async () => {
          const sealed = lifecycle.publicPart.reseal(row.setting_id, row.new_version, row.public_part);
          if (sealed !== null) await tx.putPublicPart(row, sealed);
        }),
    );
    const secrets = await all(
      "signManagedSecrets",
      (tx, id) => tx.managedSecretsAfter(id, BATCH),
      async (tx, row) => {
        if (!vault.isGenuineSecret(row)) return false;
        const mac = vault.signSecret(row);
        if (row.mac === null || !Buffer.from(row.mac).equals(mac)) await tx.putSecretMac(row, mac);
        return true;
      },
    );
    return webhooks + parts + secrets;
  };
}

/** False where the bytes open under no key that is here: whose they are not is not sealed anew. */
async function whole(work: () => Promise<void>): Promise<boolean> {
  try {
    await work();
    return true;
  } catch (error) {
    if (error instanceof Error && error.name === "EnvelopeError") return false;
    throw error;
  }
}
