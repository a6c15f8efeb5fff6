// An export of the audit log: JSON Lines, in the order of the chain. The first line says what it is, the last how far
// it goes, signed; between them each seal, then the events under it, then the events that no seal covers yet. Whoever
// has the public key can verify it, without the database and the master key.
import type { AuditEvent } from "./audit.ts";
import type { ExportEnd, Seal, SealJudge, SealMaker } from "./audit-chain.ts";
import { type ChainItem, type KnownHead, type Verdict, verifyChain } from "./audit-verify.ts";

const FORMAT = "coffer audit v1";

type Source = { readonly head: Seal | null; readonly items: AsyncIterable<ChainItem> };
type Fields = Readonly<Record<string, unknown>>;

/** A file that is no whole export; the message names the line, and quotes nothing of it. */
export class ExportFlaw extends Error {
  override readonly name = "ExportFlaw";
}

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const hexOrNull = (bytes: Uint8Array | null): string | null => (bytes === null ? null : hexOf(bytes));

export async function* exportLines(source: Source, maker: SealMaker, now: Date): AsyncGenerator<string> {
  const { head } = source;
  const line = (fields: Fields): string => `${JSON.stringify(fields)}\n`;
  yield line({
    kind: "header",
    format: FORMAT,
    exported_at: now.toISOString(),
    public_key: maker.publicKey,
    kept_from: head?.kept_from?.toISOString() ?? null,
  });
  let [seals, events] = [0, 0];
  for await (const item of source.items) {
    if (item.kind === "event") {
      events += 1;
      yield line({ kind: "event", position: item.position, ...item.event });
      continue;
    }
    seals += 1;
    const { leaves, ...seal } = item.seal;
    yield line({
      kind: "seal",
      ...seal,
      previous: hexOrNull(seal.previous),
      events_hash: hexOf(seal.events_hash),
      hash: hexOf(seal.hash),
      signature: hexOf(seal.signature),
      leaves: leaves === null ? null : Buffer.from(leaves).toString("base64"),
    });
  }
  const end: ExportEnd = {
    exported_at: now,
    head_number: head?.number ?? 0,
    head_hash: head?.hash ?? null,
    seals,
    events,
  };
  const signature = hexOf(maker.signEnd(end));
  yield line({ kind: "end", ...end, head_hash: hexOrNull(end.head_hash), signature });
}

export type ExportedItem = ChainItem | (ExportEnd & { readonly kind: "end"; readonly signature: Uint8Array });

/** @throws ExportFlaw for a line that is none, naming it */
export async function* readLines(
  lines: AsyncIterable<string>,
): AsyncGenerator<ExportedItem | { kind: "header"; kept_from: Date | null }> {
  let number = 0;
  for await (const text of lines) {
    number += 1;
    if (text.trim() === "") continue;
    const fields = fieldsOf(text);
    if ((number === 1) !== (fields?.["kind"] === "header") || fields === null)
      throw new ExportFlaw(`Line ${number} is not a line of an export.`);
    switch (fields["kind"]) {
      case "header":
        if (fields["format"] !== FORMAT) throw new ExportFlaw("The file is not an export of this format.");
        yield { kind: "header", kept_from: dateOrNull(fields["kept_from"]) };
        break;
      case "seal":
        yield { kind: "seal", seal: toSeal(fields) };
        break;
      case "event":
        yield { kind: "event", ...toPlaced(fields) };
        break;
      case "end":
        yield { kind: "end", ...toEnd(fields), signature: bytesOf(fields["signature"]) };
        break;
      default:
        throw new ExportFlaw(`Line ${number} is not a line of an export.`);
    }
  }
}

/** @throws ExportFlaw for a file that is no export */
export async function verifyExport(
  lines: AsyncIterable<string>,
  judge: SealJudge,
  known: readonly KnownHead[] = [],
): Promise<Verdict> {
  const read = readLines(lines);
  const first = await read.next();
  if (first.done === true || first.value.kind !== "header") throw new ExportFlaw("The file is empty.");
  const { kept_from: keptFrom } = first.value;
  let end: Extract<ExportedItem, { kind: "end" }> | null = null;
  let [seals, events] = [0, 0];
  async function* items(): AsyncGenerator<ChainItem> {
    for await (const item of read) {
      if (end !== null || item.kind === "header") throw new ExportFlaw("There are lines after the end.");
      if (item.kind === "end") end = item;
      else {
        if (item.kind === "seal") seals += 1;
        else events += 1;
        yield item;
      }
    }
  }
  const verdict = await verifyChain(items(), judge, { keptFrom, known });
  if (verdict.problem !== null) return verdict;
  const { head } = verdict.verified;
  const said = end as Extract<ExportedItem, { kind: "end" }> | null;
  const whole =
    said !== null &&
    said.seals === seals &&
    said.events === events &&
    said.head_number === (head?.number ?? 0) &&
    judge.isGenuineEnd(said, said.signature);
  if (whole) return verdict;
  const detail = said === null ? "The file has no end." : "Its end does not fit what comes before.";
  const seal = head?.number ?? null;
  return { problem: { what: "truncated", seal, position: null, event_id: null, at: null, detail } };
}

function fieldsOf(text: string): Fields | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : null;
  } catch {
    return null;
  }
}

// Whatever a line holds becomes something of the right kind; what it should not hold fits no signature or hash.
const bytesOf = (given: unknown): Buffer => Buffer.from(typeof given === "string" ? given : "", "hex");
const numberOf = (given: unknown): number => (typeof given === "number" ? given : Number.NaN);
const dateOf = (given: unknown): Date => new Date(typeof given === "string" ? given : Number.NaN);
const dateOrNull = (given: unknown): Date | null => (given === null ? null : dateOf(given));

function toSeal(fields: Fields): Seal {
  const { leaves, previous } = fields;
  return {
    number: numberOf(fields["number"]),
    previous: previous === null ? null : bytesOf(previous),
    first_position: numberOf(fields["first_position"]),
    last_position: numberOf(fields["last_position"]),
    count: numberOf(fields["count"]),
    events_hash: bytesOf(fields["events_hash"]),
    leaves: typeof leaves === "string" ? Buffer.from(leaves, "base64") : null,
    kept_from: dateOrNull(fields["kept_from"]),
    sealed_at: dateOf(fields["sealed_at"]),
    key_id: String(fields["key_id"]),
    hash: bytesOf(fields["hash"]),
    signature: bytesOf(fields["signature"]),
  };
}

function toPlaced(fields: Fields): { readonly position: number | null; readonly event: AuditEvent } {
  const { kind: _, position, ...event } = fields;
  const at = dateOf(event["at"]);
  const id = String(event["id"]);
  return {
    position: position === null ? null : numberOf(position),
    event: { ...(event as unknown as AuditEvent), id, at },
  };
}

function toEnd(fields: Fields): ExportEnd {
  const { head_hash } = fields;
  return {
    exported_at: dateOf(fields["exported_at"]),
    head_number: numberOf(fields["head_number"]),
    head_hash: head_hash === null ? null : bytesOf(head_hash),
    seals: numberOf(fields["seals"]),
    events: numberOf(fields["events"]),
  };
}
