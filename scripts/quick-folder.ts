// Where what tests write is quickest: a test's database or home is some hundreds of files to make and to remove.
import { access, constants, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";

const MEMORY = "/dev/shm";
/** Several times what a run takes there. */
const ROOM_BYTES_MIN = 4e9;

/**
 * In memory where there is room; elsewhere (macOS, a container with a small `/dev/shm`), the folder for temporary files.
 * What tests kill is the broker or its PostgreSQL, not the machine: the kernel keeps what they wrote in either.
 */
export async function quickFolder(): Promise<string> {
  try {
    await access(MEMORY, constants.W_OK | constants.X_OK);
    const { bavail, bsize } = await statfs(MEMORY);
    if (Math.min(bavail * bsize, process.availableMemory()) >= ROOM_BYTES_MIN) return MEMORY;
  } catch {
    // There is none, or it is nobody's to write to.
  }
  return tmpdir();
}
