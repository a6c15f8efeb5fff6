// A master key that a cloud's manager keeps: made at the first start, one secret of one version. Its row is there before
// the secret is, so that replicas that start at once end with one key, and a start that is cut off is finished by the next.
import { INSTANCE_TENANT } from "../domain/audit.ts";
import type { CloudManager } from "../domain/manager-ports.ts";
import type { NewId } from "../domain/ports.ts";
import type { KeyStore } from "../domain/sealing-ports.ts";
import { generateMasterKey, parseMasterKey } from "./master-key.ts";

type Store = Pick<KeyStore, "masterKeySecret" | "keyCheck" | "confirmSecret">;

/**
 * The key's 32 bytes, which the caller zeroes.
 * @throws Error that an operator can act on
 */
export async function masterKeyIn(manager: CloudManager, keyStore: Store, newId: NewId): Promise<Buffer> {
  const secret = (await keyStore.masterKeySecret(null)) ?? (await begin(manager, keyStore, newId));
  if (secret.manager !== manager.name)
    throw new Error(
      `This database's master key is kept by the manager ${secret.manager}: start with COFFER_MANAGER=${secret.manager}.`,
    );
  const { address, version_id } = secret;
  const tags = { purpose: "master_key" };
  const [read] =
    version_id === null
      ? [await manager.ensure(secret.id, address, generateMasterKey(), tags)]
      : await manager.read([{ ...address, version_id }]);
  if (read?.kind !== "text")
    throw new Error(
      `The master key cannot be read from the manager ${manager.name}. ${read?.error.message ?? ""}`,
      { cause: read?.error },
    );
  if (version_id === null) await keyStore.confirmSecret(secret, read.version_id, null);
  return parseMasterKey(read.text);
}

async function begin(manager: CloudManager, keyStore: Store, newId: NewId) {
  if ((await keyStore.keyCheck(null)) !== null)
    throw new Error(
      "This database was made with a master key from outside its manager: set COFFER_MASTER_KEY_FILE to it.",
    );
  const id = newId();
  const place = { tenant_id: INSTANCE_TENANT, id, purpose: "master_key" as const, manager: manager.name };
  const made = await keyStore.masterKeySecret({
    ...place,
    address: manager.addressOf(id),
    version_id: null,
    setting_id: null,
  });
  if (made === null) throw new Error("the master key's secret is recorded");
  return made;
}
