// The master key as a file. One that is there is never written to; a new one appears whole, with mode 0600, or not
// at all, and is on disk before anything can be sealed under it. A file that others may read is refused: it must be
// taken for known, and only its owner can say whether it is.
import { randomBytes } from "node:crypto";
import { link, open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { MASTER_KEY_FORM } from "../domain/master-key-text.ts";
import { generateMasterKey, parseMasterKey } from "./master-key.ts";

const FILE_BYTES_MAX = 1_024;
/** The mode bits that must be off. A mounted secret (Kubernetes with `fsGroup`) is readable by the group. */
const FORBIDDEN_MODE = { owner: 0o077, group: 0o037 } as const;

/**
 * Reads a master key's file; `readers` says who may be able to read it at most.
 * @throws Error naming the path, when it is missing (code ENOENT), open to others, or holds no master key
 */
export async function readMasterKeyFile(path: string, readers: keyof typeof FORBIDDEN_MODE): Promise<Buffer> {
  const file = await open(path, "r").catch((error: NodeJS.ErrnoException) => {
    throw Object.assign(
      new Error(`The master key's file ${path} cannot be read: ${error.code ?? error.name}.`),
      {
        code: error.code,
      },
    );
  });
  try {
    // Of the open file, not of the path: nobody can swap it in between.
    const { mode, size } = await file.stat();
    if (process.platform !== "win32" && (mode & FORBIDDEN_MODE[readers]) !== 0) {
      const found = (mode & 0o777).toString(8).padStart(4, "0");
      throw new Error(
        `The master key ${path} is open to other users of this machine (mode ${found}). ` +
          "If nobody else can have read it, make it private: chmod 600",
      );
    }
    if (size > FILE_BYTES_MAX) throw new Error(`The file ${path} is too large to be a master key.`);
    const content = await file.readFile();
    try {
      return parseMasterKey(content.toString("latin1"));
    } catch (error) {
      throw new Error(`The file ${path} holds no master key: ${MASTER_KEY_FORM}.`, { cause: error });
    } finally {
      content.fill(0);
    }
  } finally {
    await file.close();
  }
}

/**
 * The master key of an embedded start: the file's, or a new one when there is no file. Of several processes that
 * start at once, all get the same. The folder must be there.
 * @throws Error as readMasterKeyFile does for a file that only its owner may read
 */
export async function loadOrCreateMasterKeyFile(path: string): Promise<Buffer> {
  try {
    return await readMasterKeyFile(path, "owner");
  } catch (error) {
    if (!hasCode(error, "ENOENT")) throw error;
  }
  await create(path);
  return readMasterKeyFile(path, "owner");
}

/** Written aside, flushed, then linked into place: `link` fails where a file is, so that none is overwritten. */
async function create(path: string): Promise<void> {
  const aside = `${path}.${process.pid}.${randomBytes(4).toString("hex")}`;
  try {
    const file = await open(aside, "wx", 0o600);
    try {
      await file.writeFile(`${generateMasterKey()}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await link(aside, path).catch((error: unknown) => {
      if (!hasCode(error, "EEXIST")) throw error;
    });
  } finally {
    await rm(aside, { force: true });
  }
  // The name too must outlive a power cut. Windows cannot flush a folder, and needs not.
  if (process.platform === "win32") return;
  const folder = await open(dirname(path), "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
