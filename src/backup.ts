// `coffer backup` and `coffer restore`: the tables' rows as they rest, from one snapshot, compressed, sealed for the
// master key or for a recipient; and the way back, into an empty database, proven before it is committed.
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { v7 as newId } from "uuid";
import type { Config } from "./config.ts";
import { INSTANCE_TENANT, type AuditEvent } from "./domain/audit.ts";
import type { Seal, SealMaker } from "./domain/audit-chain.ts";
import { readLines, verifyExport } from "./domain/audit-lines.ts";
import { type Problem, verifyChain } from "./domain/audit-verify.ts";
import { linesOf } from "./domain/lines.ts";
import { type Since, sinceBackup } from "./domain/since-backup.ts";
import { operate, withDatabase } from "./operate.ts";
import { createSealMaker, onlySeed } from "./sealing/audit-seal.ts";
import { type BackupBy, type BackupTo, openBackup, sealBackup } from "./sealing/backup-file.ts";
import { readMasterKeys } from "./sealing/key-source.ts";
import type { MasterKeys } from "./sealing/master-key.ts";
import { dumpTables } from "./store/backup.ts";
import { applyMigrations } from "./store/migrate.ts";
import { type Restored, RestoreRefused, assertRestorable, restoreTables } from "./store/restore.ts";

export { generateBackupKey } from "./sealing/backup-file.ts";

type Say = (line: string) => void;
const TOKEN_DAYS = 90;

/** @param recipient the public half of a pair; null: under the master key */
export async function backup(
  config: Config,
  input: { readonly output: string | null; readonly recipient: string | null },
  stdout: NodeJS.WritableStream,
): Promise<number> {
  const { output, recipient } = input;
  const now = new Date();
  const write = async (url: string, to: BackupTo): Promise<void> => {
    const rows = Readable.from(dumpTables(url, now));
    const sealed = (content: AsyncIterable<Uint8Array>) => sealBackup(content, to, now);
    if (output === null) await pipeline(rows, createGzip(), sealed, stdout, { end: false });
    else await writeWhole(output, (out) => pipeline(rows, createGzip(), sealed, out));
  };
  if (recipient !== null) await withDatabase(config, (url) => write(url, { recipient }));
  else
    await operate(
      config,
      (_broker, { databaseUrl, keys }) => write(databaseUrl, { master: keys.backup }),
      "leave",
    );
  return 0;
}

/** The file is there when all of it is on disk, and not before; one that is there already stays. */
async function writeWhole(path: string, write: (out: NodeJS.WritableStream) => Promise<void>): Promise<void> {
  if (
    await stat(path).then(
      () => true,
      () => false,
    )
  )
    throw new Error(`${path} is there already.`);
  const aside = `${path}.part`;
  const file = await open(aside, "wx", 0o600);
  try {
    await write(file.createWriteStream({ flush: true }));
    await rename(aside, path);
  } catch (error) {
    await rm(aside, { force: true });
    throw error;
  }
}

export type RestoreInput = {
  readonly input: string;
  /** A file with the private half, for a backup that was made for a recipient. */
  readonly identity: string | null;
  /** A later export of the log of what was lost. */
  readonly auditExport: string | null;
};

/** The new admin token goes to `out`, what else there is to say to `say`. */
export async function restore(config: Config, input: RestoreInput, out: Say, say: Say): Promise<number> {
  const keys = await masterKeysOf(config);
  const maker = createSealMaker(onlySeed(keys.auditSealing), config.auditEarlierKeys);
  const identity = input.identity === null ? null : await readSecret(input.identity);
  const by: BackupBy = { master: keys.backup, identity };
  const restored = await withDatabase(config, async (url) => {
    await assertRestorable(url);
    await applyMigrations(url);
    return restoreTables(url, rowsOf(input.input, by), {
      keyCheck: keys.keyCheck,
      now: new Date(),
      prove: async ({ head, items }) => {
        refuse(
          "The backup's audit log",
          await verifyChain(items, maker, { keptFrom: head?.kept_from ?? null }),
        );
        if (input.auditExport !== null) await proveExport(input.auditExport, maker, head);
      },
      eventOf: restoreEvent,
    });
  });
  say(
    `Restored ${restored.rows} rows as of ${restored.created_at.toISOString()}; the audit log is as it was sealed.`,
  );
  say(`${restored.tokens_voided} tokens are void, and so is every enrolment code and access token.`);
  say(`Numbers of versions go on after ${restored.version_floor}.`);
  if (input.auditExport === null)
    say("No newer audit export was given: what was destroyed since is not known.");
  else await listSince(input.auditExport, restored, say);
  const made = await operate(config, (broker) =>
    broker.createOperatorToken({ principal_id: null, name: "after a restore", expires_in_days: TOKEN_DAYS }),
  );
  out(made.token);
  return 0;
}

/** The backup has to be opened before anything says in which of a manager's secrets the key is. */
function masterKeysOf({ masterKey, home }: Config): Promise<MasterKeys> {
  switch (masterKey.from) {
    case "environment":
      return readMasterKeys({ from: "environment", text: masterKey.text.reveal() });
    case "file":
      return readMasterKeys(masterKey);
    case "home":
      return readMasterKeys({ from: "home", home });
    case "manager":
      throw new Error(
        "A restore needs the master key itself: take it out of the manager, and set COFFER_MASTER_KEY_FILE to it.",
      );
  }
}

async function* rowsOf(path: string, by: BackupBy): AsyncGenerator<string> {
  const plain = createGunzip();
  const fed = pipeline(Readable.from(openBackup(createReadStream(path), by)), plain);
  // What fails there fails the reading of `plain`, too; here it only must not go unheard.
  fed.catch(() => undefined);
  yield* linesOf(plain);
  await fed;
}

function refuse(what: string, verdict: { readonly problem: Problem | null }): void {
  if (verdict.problem === null) return;
  const { what: flaw, event_id, seal, detail } = verdict.problem;
  const where = event_id === null ? `seal ${seal ?? ""}` : `event ${event_id}`;
  throw new RestoreRefused(
    `${what} is not as it was sealed: ${flaw}, ${where}. ${detail} Nothing was restored.`,
  );
}

/** The export must be of the very log that the backup has the beginning of. */
async function proveExport(path: string, maker: SealMaker, head: Seal | null): Promise<void> {
  const verdict = await verifyExport(linesOf(createReadStream(path)), maker, head === null ? [] : [head]);
  refuse("The audit export", verdict);
}

async function listSince(path: string, { position, unplaced }: Restored, say: Say): Promise<void> {
  const titles: Readonly<Record<Since["what"], string>> = {
    destroyed: "destroyed since, and there again: destroy it again",
    deleted: "deleted since, and there again",
    right_taken: "taken since, and held again",
    written: "written since, and gone",
  };
  let found = 0;
  for await (const item of readLines(linesOf(createReadStream(path)))) {
    if (item.kind !== "event" || unplaced.has(item.event.id)) continue;
    if (item.position !== null && item.position <= position) continue;
    for (const { what, at, event_id, text } of sinceBackup(item.event)) {
      found += 1;
      say(`${titles[what]}: ${text} (${at.toISOString()}, event ${event_id})`);
    }
  }
  say(
    found === 0
      ? "Nothing was destroyed, taken or written since."
      : "Put these right before you open the port.",
  );
}

async function readSecret(path: string): Promise<string> {
  const file = await open(path, "r");
  try {
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

function restoreEvent(facts: Pick<Restored, "created_at" | "tokens_voided" | "version_floor">): AuditEvent {
  return {
    id: newId(),
    at: new Date(),
    tenant_id: INSTANCE_TENANT,
    principal_id: null,
    token_id: null,
    action: "housekeep",
    operation: "restoreBackup",
    outcome: "allowed",
    owner_type: "instance",
    owner_id: null,
    path: null,
    settings: [],
    target_id: null,
    details: {
      change: "backup_restored",
      backup_created_at: facts.created_at.toISOString(),
      tokens_voided: String(facts.tokens_voided),
      version_floor: String(facts.version_floor),
    },
    request_id: newId(),
    follows: null,
    ip: null,
    user_agent: null,
    reason: null,
    count: 1,
  };
}
