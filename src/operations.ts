// What who has the machine does beside serving: the audit log is verified, exported, its key and head are printed.
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

/** A command that was given what it does not take. */
class Misuse extends Error {
  override readonly name = "Misuse";
}

const linesIn = (file: string): AsyncIterable<string> => linesOf(createReadStream(file));

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
