// Where an instance's master keys come from. One is made up only beside the embedded database, and only while that
// database was never sealed under another: a lost key is said to be lost, never replaced.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { CloudManager } from "../domain/manager-ports.ts";
import type { NewId } from "../domain/ports.ts";
import type { KeyStore } from "../domain/sealing-ports.ts";
import { masterKeyIn } from "./managed-master-key.ts";
import { checkMasterKeys } from "./key-check.ts";
import { type MasterKeys, createMasterKeys, parseMasterKey } from "./master-key.ts";
import { loadOrCreateMasterKeyFile, readMasterKeyFile } from "./master-key-file.ts";
import { type MasterKeyRing, createMasterKeyRing } from "./master-key-ring.ts";

export type KeySource =
  | { readonly from: "home"; readonly home: string }
  | { readonly from: "manager"; readonly manager: CloudManager; readonly newId: NewId }
  | { readonly from: "file"; readonly path: string }
  | { readonly from: "environment"; readonly text: string };

/**
 * Opens the master key, and the one that is to replace it, and sees that the one that this database names is among
 * them.
 * @throws Error that says what is missing or wrong, and nothing of the keys
 */
export async function openMasterKeys(
  { own, next }: { readonly own: KeySource; readonly next: KeySource | null },
  keyStore: KeyStore,
): Promise<MasterKeyRing> {
  const keys = createMasterKeys(await bytesOf(own, keyStore));
  const nextKeys = next === null ? null : createMasterKeys(await bytesOf(next, keyStore));
  const ring = createMasterKeyRing(keys, nextKeys);
  await checkMasterKeys(keyStore, ring);
  return ring;
}

/**
 * The master key without the database that it belongs to, for a restore.
 * @throws Error when there is none, or it is none
 */
export async function readMasterKeys(
  source: Exclude<KeySource, { readonly from: "manager" }>,
): Promise<MasterKeys> {
  switch (source.from) {
    case "environment":
      return createMasterKeys(parseMasterKey(source.text));
    case "file":
      return createMasterKeys(await readMasterKeyFile(source.path, "group"));
    case "home":
      return createMasterKeys(await readMasterKeyFile(join(source.home, "master.key"), "owner"));
  }
}

async function bytesOf(source: KeySource, keyStore: KeyStore): Promise<Buffer> {
  switch (source.from) {
    case "environment":
      return parseMasterKey(source.text);
    case "file":
      return readMasterKeyFile(source.path, "group");
    case "manager":
      return masterKeyIn(source.manager, keyStore, source.newId);
    case "home": {
      const path = join(source.home, "master.key");
      const there = await stat(path).then(
        () => true,
        () => false,
      );
      if (!there && (await keyStore.keyCheck(null)) !== null)
        throw new Error(
          `${path} is missing, and this database is sealed under it. Put the file back from its backup.`,
        );
      return loadOrCreateMasterKeyFile(path);
    }
  }
}
