// Files of values, encrypted by the age format (age-encryption.org/v1), which the `age` command reads and writes too:
// for recipients' public keys, or under a passphrase. What is on disk in between is never in clear.
import { readFile, rename, rm, writeFile } from "node:fs/promises";
import { Misused, Refused, codeOf } from "./kinds.ts";

const MAGIC = "age-encryption.org/v1\n";
const ARMOR = "-----BEGIN AGE ENCRYPTED FILE-----";

export type Lock =
  | { readonly kind: "recipients"; readonly recipients: readonly string[] }
  | { readonly kind: "passphrase"; readonly passphrase: string };
export type Key = { readonly identities: readonly string[]; readonly passphrase: string | null };

/** Loaded when a file is encrypted at all: other commands start without. */
const age = () => import("age-encryption");

/** Whole or not at all, and for its owner's eyes alone. @throws Misused for a recipient that is none */
export async function writeSealed(path: string, text: string, lock: Lock): Promise<void> {
  const { Encrypter } = await age();
  const encrypter = new Encrypter();
  try {
    if (lock.kind === "passphrase") encrypter.setPassphrase(lock.passphrase);
    else for (const recipient of lock.recipients) encrypter.addRecipient(recipient);
  } catch {
    throw new Misused("A recipient is an age public key: age1….");
  }
  const sealed = await encrypter.encrypt(text);
  const aside = `${path}.${process.pid}.tmp`;
  try {
    await writeFile(aside, sealed, { mode: 0o600, flag: "wx" });
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw new Refused(`The file cannot be written: ${codeOf(error)}.`);
  }
}

export function isSealed(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.subarray(0, ARMOR.length)).toString("latin1");
  return head.startsWith(MAGIC) || head === ARMOR;
}

/** @throws Refused when the key does not open it, without a word of what it holds */
export async function openSealed(bytes: Uint8Array, { identities, passphrase }: Key): Promise<Uint8Array> {
  if (identities.length === 0 && passphrase === null)
    throw new Misused("The file is encrypted: give --identity-file or --passphrase-file.");
  const { Decrypter, armor } = await age();
  const decrypter = new Decrypter();
  try {
    for (const identity of identities) decrypter.addIdentity(identity);
    if (passphrase !== null) decrypter.addPassphrase(passphrase);
    const isArmored = Buffer.from(bytes.subarray(0, ARMOR.length)).toString("latin1") === ARMOR;
    return await decrypter.decrypt(isArmored ? armor.decode(Buffer.from(bytes).toString("latin1")) : bytes);
  } catch {
    throw new Refused("The file does not open with this key.");
  }
}

/** A passphrase's file: all of it but for the end of its line. */
export async function passphraseIn(path: string): Promise<string> {
  const passphrase = (await textIn(path)).replace(/\r?\n$/, "");
  if (passphrase === "") throw new Refused("The passphrase is empty.");
  return passphrase;
}

/** The identities of an age key file: comments and empty lines are passed over. */
export async function identitiesIn(path: string): Promise<string[]> {
  return (await textIn(path))
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
}

async function textIn(path: string): Promise<string> {
  return readFile(path, "utf8").catch((error: unknown) => {
    throw new Refused(`The file cannot be read: ${codeOf(error)}.`);
  });
}
