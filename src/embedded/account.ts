// As whom PostgreSQL runs. It refuses to run as root, so a root broker runs it as an unprivileged system user;
// that user cannot pass a home of mode 0700, nor an install below /root, so its processes get the one capability
// that lets them (Linux: searching folders), and no other. Must never run PostgreSQL with root's own powers.
import { readFile } from "node:fs/promises";
import { spawnSync } from "node:child_process";

/** How to start a program as the account PostgreSQL runs under, and whose its files must be. */
export type Account = {
  readonly owner: { readonly uid: number; readonly gid: number } | undefined;
  command(program: string, args: readonly string[]): readonly [string, readonly string[]];
};

/** What a program of PostgreSQL is given as environment: never the broker's own, which may hold keys. */
export const environment = { LC_ALL: "C", TZ: "UTC", PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };

/** Chooses the account: the broker's own, unless that is root. */
export async function chooseAccount(): Promise<Account> {
  if (process.getuid?.() !== 0) return { owner: undefined, command: (program, args) => [program, args] };
  const owner = await findUser(["postgres", "nobody"]);
  const capability = await searchCapability();
  if (!owner || !capability || spawnSync("setpriv", ["--version"], { env: environment }).status !== 0) {
    throw new Error(
      "the embedded PostgreSQL does not run as root, and this system has no way to run it as another user " +
        "(setpriv, a user postgres or nobody): start Coffer as an ordinary user, or set DATABASE_URL",
    );
  }
  const become = [
    `--reuid=${owner.uid}`,
    `--regid=${owner.gid}`,
    "--clear-groups",
    "--no-new-privs",
    `--inh-caps=-all,+${capability}`,
    `--ambient-caps=-all,+${capability}`,
  ];
  // setpriv replaces itself by the program, so the child's pid is the program's own.
  return { owner, command: (program, args) => ["setpriv", [...become, program, ...args]] };
}

async function findUser(names: readonly string[]): Promise<{ uid: number; gid: number } | undefined> {
  const passwd = await readFile("/etc/passwd", "utf8").catch(() => "");
  for (const name of names) {
    const fields = passwd
      .split("\n")
      .find((line) => line.startsWith(`${name}:`))
      ?.split(":");
    if (fields) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  return undefined;
}

/** Containers often keep only the wider of the two capabilities; the narrower one is preferred. */
async function searchCapability(): Promise<string | undefined> {
  const status = await readFile("/proc/self/status", "utf8").catch(() => "");
  const permitted = BigInt(`0x${/^CapPrm:\s*([0-9a-f]+)/m.exec(status)?.[1] ?? "0"}`);
  if ((permitted >> 2n) & 1n) return "dac_read_search";
  return (permitted >> 1n) & 1n ? "dac_override" : undefined;
}
