// Rows that a new master key has to reach, page by page in the order of their ids. A write is for the row as it was read.
import type { ResealStore, SealedPart, SealedWebhook } from "../domain/reseal.ts";
import type { Db, Statement } from "./db.ts";
import type { ManagedSecretModel } from "./generated/models.ts";
import { toManagedSecret } from "./rows.ts";

const webhooksStatement: Statement = {
  name: "webhooks_to_reseal",
  text: "SELECT id, sealed FROM webhooks WHERE id > $1::uuid ORDER BY id LIMIT $2::int",
};
const putWebhookStatement: Statement = {
  name: "reseal_webhook",
  text: "UPDATE webhooks SET sealed = $3::bytea WHERE id = $1::uuid AND sealed = $2::bytea",
};
const partsStatement: Statement = {
  name: "public_parts_to_reseal",
  text: `SELECT id, setting_id, new_version, public_part FROM rotations
    WHERE id > $1::uuid AND public_part IS NOT NULL ORDER BY id LIMIT $2::int`,
};
const putPartStatement: Statement = {
  name: "reseal_public_part",
  text: "UPDATE rotations SET public_part = $3::bytea WHERE id = $1::uuid AND public_part = $2::bytea",
};
const secretsStatement: Statement = {
  name: "managed_secrets_to_sign",
  text: `SELECT * FROM managed_secrets WHERE id > $1::uuid AND purpose <> 'master_key' ORDER BY id LIMIT $2::int`,
};
const putMacStatement: Statement = {
  name: "sign_managed_secret",
  text: "UPDATE managed_secrets SET mac = $3::bytea WHERE id = $1::uuid AND mac = $2::bytea",
};

export function resealRows(db: Db): ResealStore {
  return {
    webhooksAfter: (id, limit) => db.query<SealedWebhook>(webhooksStatement, [id, limit]),
    putWebhookSealed: async ({ id, sealed: was }, sealed) => {
      await db.query(putWebhookStatement, [id, was, sealed]);
    },
    publicPartsAfter: (id, limit) => db.query<SealedPart>(partsStatement, [id, limit]),
    putPublicPart: async ({ id, public_part: was }, sealed) => {
      await db.query(putPartStatement, [id, was, sealed]);
    },
    async managedSecretsAfter(id, limit) {
      return (await db.query<ManagedSecretModel>(secretsStatement, [id, limit])).map(toManagedSecret);
    },
    putSecretMac: async ({ id, mac: was }, mac) => {
      if (was !== null) await db.query(putMacStatement, [id, was, mac]);
    },
  };
}
