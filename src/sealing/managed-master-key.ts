// A master key that a cloud's manager keeps: made at the first start, one secret of one version. Its row is there before
// the secret is, so that replicas that start at once end with one key, and a start that is cut off is finished by the next.
import { isDeepStrictEqual } from "node:util";
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
  // No key of ours can vouch for this row yet, so it is believed only where it names what nothing else of ours is called.
  if (!isDeepStrictEqual(address, manager.addressOf(nameOf(secret.id))))
    throw new Error(
      `The row of the master key's secret does not name ${JSON.stringify(manager.addressOf(nameOf(secret.id)))}: somebody ` +
        "altered it, or COFFER_SECRET_PREFIX, the region, project or location is not the one that it was made with.",
    );
  const tags = { purpose: "master_key" };
  const [read] =
    version_id === null
      ? [await manager.ensure(nameOf(secret.id), address, generateMasterKey(), tags)]
      : await manager.read([{ ...address, version_id }]);
  if (read?.kind !== "text")
    throw new Error(
      `The master key cannot be read from the manager ${manager.name}. ${read?.error.message ?? ""}`,
      { cause: read?.error },
    );
  if (version_id === null && (await keyStore.confirmSecret(secret, read.version_id, null, null)) !== "noted")
    throw new Error("The row of the master key's secret is gone; start again.");
  return parseMasterKey(read.text);
}

async function begin(manager: CloudManager, keyStore: Store, newId: NewId) {
  if ((await keyStore.keyCheck(null)) !== null)
    throw new Error(
      "This database was made with a master key from outside its manager: set COFFER_MASTER_KEY_FILE to it.",
    );
  const id = newId();
  const place = { tenant_id: INSTANCE_TENANT, id, purpose: "master_key" as const, manager: manager.name };
  const nobodys = { version_id: null, setting_id: null, owner: null, path: null, mac: null };
  const made = await keyStore.masterKeySecret({
    ...place,
    ...nobodys,
    address: manager.addressOf(nameOf(id)),
  });
  if (made === null) throw new Error("the master key's secret is recorded");
  return made;
}

/** Settings' and key-encryption keys' secrets are named by their ids alone: none of them can be taken for this one. */
const nameOf = (id: string): string => `master-${id}`;
