// Whether this process was given the master keys that the database is under, found out at start: with another key
// nothing would open, and what was written would open nowhere else.
import type { KeyStore } from "../domain/sealing-ports.ts";
import type { MasterKeyRing } from "./master-key-ring.ts";

/**
 * Makes sure that the key which the database names is here, and, while it is being replaced, the other one too; a new
 * database takes on the process's own. The ring follows what the database names.
 * @throws Error that says what is missing
 */
export async function checkMasterKeys(
  keyStore: Pick<KeyStore, "keyCheck" | "epoch">,
  ring: MasterKeyRing,
): Promise<void> {
  const kept = await keyStore.keyCheck(ring.current().keyCheck);
  const { previous_key_check: previous } = await keyStore.epoch();
  const isHere = kept !== null && ring.has(kept);
  if (previous !== null && (isHere || ring.has(previous)) && !(isHere && ring.has(previous)))
    throw new Error(
      "The master key of this database is being replaced, and what is under the other one is not done yet. Start " +
        "with both (COFFER_MASTER_KEY_NEXT_FILE or COFFER_MASTER_KEY_NEXT beside the earlier one), until " +
        "`coffer keys rewrap` says that nothing is left.",
    );
  if (!isHere)
    throw new Error(
      "The master key is not the one that this database was made with. Start with the right one: " +
        "nothing in the database can be opened, and nothing may be written, with another.",
    );
  ring.follow(kept);
}
