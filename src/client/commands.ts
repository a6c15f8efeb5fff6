// The commands that are clients of a broker, wherever it is: what help says of them, and the way to them. They import
// nothing of the server, and only the one that is asked for is loaded.
import { misuseOf, optionFault } from "../usage.ts";
import { Misused, Refused } from "./kinds.ts";

type ClientCommand = {
  readonly usage: string;
  readonly does: string;
  readonly run: (args: readonly string[]) => Promise<number>;
  /** The exit code when it fails; 1 where none is said. */
  readonly failed?: number;
  /** Whether its first word begins another command, whose options are not ours. */
  readonly runs?: boolean;
};

const NOT_STARTED = 125;

export const CLIENT_COMMANDS: Readonly<Record<string, ClientCommand>> = {
  run: {
    usage: "[--mask] [--] COMMAND…",
    does: "run a command with the references in its environment resolved",
    run: async (args) => (await import("./run.ts")).run(args),
    failed: NOT_STARTED,
    runs: true,
  },
  get: {
    usage: "REFERENCE [--field F]",
    does: "print a value",
    run: async (args) => (await import("./values.ts")).get(args),
  },
  put: {
    usage: "OWNER_TYPE/OWNER_ID/PATH [--file F] [--json] [--trim]",
    does: "write a value, from standard input or a file",
    run: async (args) => (await import("./values.ts")).put(args),
  },
  ls: {
    usage: "OWNER_TYPE/OWNER_ID[/PATH] [--json]",
    does: "list settings, without their values",
    run: async (args) => (await import("./values.ts")).ls(args),
  },
  report: {
    usage: "OWNER_TYPE/OWNER_ID [--within-days N] [--unused-days N] [--json]",
    does: "what is due (rotation, expiry) and what is dead (unread settings, idle tokens)",
    run: async (args) => (await import("./report.ts")).report(args),
  },
  export: {
    usage:
      "OWNER_TYPE/OWNER_ID[/PATH] [--format json|dotenv] [--out F --recipient age1… | --passphrase-file F]",
    does: "print settings with their values, or write them to an encrypted file (age)",
    run: async (args) => (await import("./bulk.ts")).exportSettings(args),
  },
  import: {
    usage:
      "OWNER_TYPE/OWNER_ID [--file F] [--format json|dotenv] [--under PATH] [--conflict fail|skip|overwrite] [--dry-run] " +
      "[--identity-file F | --passphrase-file F]",
    does: "write settings from standard input or a file: all of them or none",
    run: async (args) => (await import("./bulk.ts")).importSettings(args),
  },
  explain: {
    usage: "[REFERENCE…]",
    does: "say what references (or those of the environment) would resolve to, or what stops them",
    run: async (args) => (await import("./values.ts")).explain(args),
  },
};

/** Runs one to its end: prints what went wrong, and returns the exit code. */
export async function runClientCommand(name: string, command: ClientCommand, args: readonly string[]) {
  const { failed = 1 } = command;
  try {
    return await command.run(args);
  } catch (error) {
    const misuse = error instanceof Misused ? error.message : optionFault(error);
    if (misuse !== null) {
      process.stderr.write(misuseOf(misuse, name, command));
      return failed === 1 ? 2 : failed;
    }
    const told = error instanceof Refused ? error.message : "something failed that should not.";
    process.stderr.write(`coffer: ${told.replaceAll("\n", "\ncoffer: ")}\n`);
    return failed;
  }
}
