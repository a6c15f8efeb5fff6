// The managers `aws` and `gcp` as guards of key-encryption keys: each key is a secret of one version in the manager, and
// so under its KMS. The record names the secret before it is made, so that none is ever there that no row knows of.
import { randomBytes } from "node:crypto";
import { BrokerError } from "../domain/errors.ts";
import type { CloudManager } from "../domain/manager-ports.ts";
import type { KekRecord } from "../domain/sealing-ports.ts";
import { KEY_BYTES } from "./envelope.ts";
import { openKek, sealKek, unusableKek } from "./kek-sealing.ts";
import type { KeyGuard } from "./key-guard.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";

/** Each key is sealed under the master key too: the manager's administrators alone cannot use what they can read. */
export function createCloudGuard(manager: CloudManager, ring: MasterKeyRing): KeyGuard {
  return {
    async protect({ id }) {
      return { sealed: null, secret: { address: manager.addressOf(id), version_id: null } };
    },

    async confirm(record, master) {
      const bytes = randomBytes(KEY_BYTES);
      const text = sealKek(master, record, bytes).toString("base64");
      bytes.fill(0);
      const tags = { purpose: "key_encryption_key", tenant_id: record.tenant_id };
      const read = await manager.ensure(record.id, secretOf(record).address, text, tags);
      if (read.kind === "failed") throw read.error;
      // Another's text may have been first, and that may be under another master key.
      const { bytes: key, under } = openKek(ring, record, Buffer.from(read.text, "base64"));
      key.fill(0);
      return { version_id: read.version_id, under };
    },

    async recover(record) {
      const { address, version_id } = secretOf(record);
      if (version_id === null) throw unusableKek(new Error("the key's secret is not confirmed"));
      const [read] = await manager.read([{ ...address, version_id }]);
      if (read === undefined) throw unusableKek(new Error("the manager did not answer"));
      if (read.kind === "failed") throw read.error;
      return openKek(ring, record, Buffer.from(read.text, "base64"));
    },
  };
}

function secretOf({ secret }: KekRecord): NonNullable<KekRecord["secret"]> {
  if (secret === null)
    throw new BrokerError("manager_failed", "The record of this owner's key says nowhere where it lies.");
  return secret;
}
