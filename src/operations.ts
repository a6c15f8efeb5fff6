// What who has the machine does beside serving: the audit log is verified, exported, its key and head are printed;
// the database is brought up to date, values are moved to new keys.
// Each answers the process's exit code and hands what it has to say to `say`.
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import type { Config } from "./config.ts";
import { exportLines, verifyExport } from "./domain/audit-lines.ts";
import { type KnownHead, type Problem, type Verdict, verifyChain } from "./domain/audit-verify.ts";
import { linesOf } from "./domain/lines.ts";
import { operate } from "./operate.ts";
import { createSealJudge } from "./sealing/audit-seal.ts";
import { applyMigrations } from "./store/migrate.ts";
import { grantServing } from "./store/roles.ts";
import { Misuse } from "./usage.ts";

type Say = (line: string) => void;

export type VerifyInput = {
  /** An export, instead of the database. */
  readonly file?: string | undefined;
  /** Whose export it is, where the master key is not at hand. */
  readonly publicKey?: string | undefined;
  /** `number:hash`, as the log and `coffer audit head` have it. */
  readonly heads: readonly string[];
};

/** 0 when all fits; 1, and the first bad event, when not. */
export async function verifyAudit(read: () => Config, input: VerifyInput, say: Say): Promise<number> {
  const known = input.heads.map(toHead);
  const { file, publicKey } = input;
  if (publicKey !== undefined && file === undefined)
    throw new Misuse("--public-key goes with --export FILE.");
  if (file !== undefined && publicKey !== undefined)
    return report(await verifyExport(linesIn(file), createSealJudge(publicKey), known), say);
  const verdict = await operate(
    read(),
    async (_broker, { auditStream, maker }) => {
      if (file !== undefined) return verifyExport(linesIn(file), maker, known);
      const { head, items } = await auditStream();
      return verifyChain(items, maker, { keptFrom: head?.kept_from ?? null, known });
    },
    "leave",
  );
  return report(verdict, say);
}

export async function exportAudit(config: Config, out: NodeJS.WritableStream): Promise<number> {
  await operate(
    config,
    async (_broker, { auditStream, maker }) => {
      const lines = exportLines(await auditStream(), maker, new Date());
      await pipeline(Readable.from(lines), out, { end: false });
    },
    "leave",
  );
  return 0;
}

/** For who verifies exports elsewhere. */
export async function printAuditKey(config: Config, say: Say): Promise<number> {
  say(await operate(config, async (_broker, { maker }) => maker.publicKey, "leave"));
  return 0;
}

/** The newest seal, to be written down where the database cannot reach. */
export async function printAuditHead(config: Config, say: Say): Promise<number> {
  const head = await operate(config, async (_broker, { auditStream }) => (await auditStream()).head, "leave");
  if (head === null) throw new Error("Nothing is sealed yet.");
  say(`${head.number}:${Buffer.from(head.hash).toString("hex")}`);
  return 0;
}

/** Drops what retention no longer keeps; for the owner, where a lesser role serves. */
export async function pruneAudit(config: Config, say: Say): Promise<number> {
  if (config.auditRetentionMonths === 0) throw new Misuse("Set COFFER_AUDIT_RETENTION_MONTHS first.");
  const dropped = await operate(config, async (broker, { sealing }) => {
    await sealing.seal();
    return broker.pruneAudit();
  });
  say(
    dropped === null
      ? "Nothing is old enough."
      : `Gone: ${dropped.months.join(", ")}. Events are kept from ${dropped.kept_from.toISOString()} on.`,
  );
  return 0;
}

/** Brings the database to this build's schema and, where a lesser role serves, gives that role its rights. */
export async function migrate(config: Config, servingRole: string | undefined, say: Say): Promise<number> {
  if (config.databaseUrl === null)
    throw new Error("DATABASE_URL is not set: the embedded database migrates itself.");
  if (servingRole !== undefined && !/^[a-z_][a-z0-9_]{0,62}$/.test(servingRole))
    throw new Misuse("--serving-role is the name of a role: lower-case letters, digits and _.");
  const { applied } = await applyMigrations(config.databaseUrl.reveal());
  say(applied.length === 0 ? "No migration was missing." : `Applied: ${applied.join(", ")}.`);
  if (servingRole === undefined) return 0;
  await grantServing(config.databaseUrl.reveal(), servingRole);
  say(`${servingRole} has the rights to serve, and no more.`);
  return 0;
}

/** How long an old data key stays once nothing is under it: longer than any request takes that read a row before. */
const GRACE_SECONDS_DEFAULT = "180";
const GRACE_SECONDS_MAX = 86_400;

/** 0 when nothing is left under old keys; what is left, and why, goes to `complain`. */
export async function rewrapKeys(
  read: () => Config,
  given: string | undefined,
  say: Say,
  complain: Say,
): Promise<number> {
  const grace = given ?? GRACE_SECONDS_DEFAULT;
  const graceSeconds = Number(grace);
  if (!/^[0-9]+$/.test(grace) || graceSeconds > GRACE_SECONDS_MAX)
    throw new Misuse(`--grace-seconds is a whole number from 0 to ${GRACE_SECONDS_MAX}.`);
  const outcome = await operate(read(), (broker) =>
    broker.rewrapKeys(graceSeconds, (progress) => {
      if (progress.kind === "settings") say(`rewrapped ${progress.done} of ${progress.total} settings`);
      else
        say(`${progress.dataKeys} old keys go at ${progress.until.toISOString()}, when nobody reads by them`);
    }),
  );
  const { unmoved, altered, dataKeysRemoved, keksRemoved, left, replacement } = outcome;
  say(`removed ${dataKeysRemoved} data keys and ${keksRemoved} key-encryption keys`);
  if (replacement === "done")
    say("Nothing is left under the earlier master key: start with the new one alone.");
  for (const { ref, code } of unmoved) complain(`coffer: not rewrapped: ${ref} (${code})`);
  if (altered > 0)
    complain(
      `coffer: ${altered} rows of webhooks, rotations or secrets in managers were altered outside the broker: the earlier master key stays in use until they are gone.`,
    );
  if (unmoved.length === 0 && left === 0) {
    if (altered === 0) say("Nothing is left under old keys.");
    return altered === 0 ? 0 : 1;
  }
  complain(
    `coffer: ${left} old keys are still in use by ${unmoved.length} settings; see to them, and run this again.`,
  );
  return 1;
}

async function* linesIn(file: string): AsyncGenerator<string> {
  try {
    yield* linesOf(createReadStream(file));
  } catch (error) {
    const why = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    throw new Error(`The export ${file} cannot be read: ${why}.`, { cause: error });
  }
}

function toHead(text: string): KnownHead {
  const [, number, hash] = /^([1-9][0-9]{0,14}):([0-9a-f]{64})$/.exec(text.trim()) ?? [];
  if (number === undefined || hash === undefined)
    throw new Misuse("--head is a seal's number and hash: 12:0123…, as `coffer audit head` prints it.");
  return { number: Number(number), hash: Buffer.from(hash, "hex") };
}

function report(verdict: Verdict, say: Say): number {
  if (verdict.problem !== null) {
    say(wordsOf(verdict.problem));
    return 1;
  }
  const { head, seals, events, dropped, unsealed } = verdict.verified;
  say(`The audit log is as it was sealed: ${events} events under ${seals} seals.`);
  if (dropped > 0) say(`${dropped} earlier events are gone by retention; their seals are there.`);
  if (unsealed > 0) say(`${unsealed} events are not sealed yet.`);
  if (head !== null)
    say(
      `Head ${head.number}:${Buffer.from(head.hash).toString("hex")}, sealed at ${head.sealed_at.toISOString()}.`,
    );
  return 0;
}

function wordsOf({ what, seal, position, event_id, at, detail }: Problem): string {
  const where = [
    event_id === null ? null : `event ${event_id}`,
    position === null ? null : `position ${position}`,
    seal === null ? null : `seal ${seal}`,
    at === null || Number.isNaN(at.getTime()) ? null : at.toISOString(),
  ].filter((each) => each !== null);
  return `The audit log was tampered with: ${what}, ${where.join(", ")}. ${detail}`;
}
