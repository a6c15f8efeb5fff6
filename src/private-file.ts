// Files that are for their owner's eyes alone.
import { mkdir, open as openFile, rename } from "node:fs/promises";
import { join } from "node:path";

/** Whole or not at all, for its owner's eyes alone, and on disk when it resolves. */
export async function keepPrivately(path: string, text: string): Promise<void> {
  await mkdir(join(path, ".."), { recursive: true, mode: 0o700 });
  const aside = `${path}.${process.pid}`;
  const file = await openFile(aside, "w", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(aside, path);
}
