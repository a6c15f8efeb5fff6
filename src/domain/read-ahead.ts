// Reading ahead: a read that says at once what it will ask lets the store admit, find and put on record in one round
// trip, shared with whoever else is waiting. Nothing is decided there for good: the gate judges the facts that came
// back and words the event itself, and whatever the statement put on record must be that very event.
import { type OwnerAction, ceilingCovers } from "./access.ts";
import type { Owner, SettingPath } from "./address.ts";
import type { Caller, Need, Source } from "./admission.ts";
import { type AuditEvent, INSTANCE_TENANT } from "./audit.ts";
import { type BrokerError, unavailable } from "./errors.ts";
import type { Events } from "./events.ts";
import type { Admission, PresentedToken, Reader, SettingPage, SettingQuery, Store } from "./ports.ts";
import type { SettingRow } from "./setting.ts";

/** The rows that a read will ask for, live ones at or under a path or at each of some, and what it does with them. */
export type Plan = {
  readonly select: SettingQuery["select"] | { readonly kind: "each"; readonly paths: readonly SettingPath[] };
  /** `decrypt`: values are to be opened, and all of them may be. */
  readonly action: Extract<OwnerAction, "list" | "decrypt">;
  /** True where a setting has to stand at the path, or at each of them. */
  readonly strict: boolean;
  readonly limit: number;
};

/** `event`: as it would be, but for who, whose log it is in, and which settings. */
export type Ahead = Plan & {
  readonly presented: PresentedToken;
  readonly owner: Owner;
  readonly event: AuditEvent;
};

/**
 * `page` null: more than is read ahead, or not even looked for. `recorded` null: nothing is on record, since the
 * statement did not find it allowed and plain; the gate does it all by itself then.
 */
export type FoundAhead = {
  readonly admission: Admission | null;
  readonly page: SettingPage | null;
  readonly recorded: AuditEvent | null;
};

/** `isReadAhead`: all that the plan names is there already, and is answered at once. */
export type ReadingReader = Reader & { readonly isReadAhead?: boolean };

/** What the gate goes on with: what was read ahead, or nothing of it. */
export type Early = {
  readonly source: Source;
  readonly reader: ReadingReader;
  /** When the statement looked: what is decided again is decided as of then. */
  readonly at?: Date;
  readonly recorded: AuditEvent | null;
  /** Lets an error out as it is; where the statement had allowed the read, as the contradiction that it is. */
  readonly refute: (error: unknown) => Promise<never>;
  /** Has the events on record, or sees that they are; answers the first. @throws BrokerError `unavailable` */
  readonly settled: (worded: AuditEvent, beside: readonly AuditEvent[]) => Promise<AuditEvent>;
};

export function createReadingAhead(store: Store, source: Source, { eventOf, newId, clock }: Events) {
  const nothing: Early = {
    source,
    reader: store.reader,
    recorded: null,
    async refute(error) {
      throw error;
    },
    async settled(worded, beside) {
      await Promise.all([worded, ...beside].map((each) => store.record(each)));
      return worded;
    },
  };

  /** Where the store would rather not, or there is no plan, there is nothing to go on with. */
  async function ahead(
    { credential, context }: Caller,
    { ask, place }: Need,
    plan: Plan | null,
  ): Promise<Early> {
    if (plan === null || place.kind !== "owner") return nothing;
    if (credential.kind === "absent" || credential.kind === "malformed") return nothing;
    const path = "path" in ask ? ask.path : null;
    const access = credential.kind === "access" ? credential.claims : null;
    if (!ceilingCovers(access?.scopes ?? [], plan.action, place.owner, path)) return nothing;
    const nobody = { principal_id: null, token_id: null };
    const key = { ...place.owner, tenant_id: INSTANCE_TENANT };
    const event = eventOf(context, nobody, { action: plan.action, path }, key, "allowed");
    // The statement knows of no access token's end.
    if (access !== null && access.expires_at <= event.at) return nothing;
    const found = await store.readAhead({ ...plan, presented: credential, owner: place.owner, event });
    if (found === null) return nothing;
    // What was found is asked for once; a change would be admitted anew.
    const { token, principal } = source;
    const early: Early = {
      source: { admit: () => Promise.resolve(found.admission), token, principal },
      reader: readerWith(store.reader, plan, found.page),
      at: event.at,
      recorded: null,
      refute: nothing.refute,
      settled: nothing.settled,
    };
    return found.recorded === null ? early : onRecord(early, found.recorded);
  }

  function onRecord(early: Early, recorded: AuditEvent): Early {
    const refute = async (cause: unknown): Promise<never> => {
      throw await contradicted(recorded, cause);
    };
    const settled: Early["settled"] = async (event, beside) =>
      beside.length === 0 && isSameEvent(recorded, event) ? recorded : refute(undefined);
    return { ...early, recorded, refute, settled };
  }

  /** The statement allowed what the gate does not, or something else: nothing is opened, and that is on record. */
  async function contradicted(recorded: AuditEvent, cause: unknown): Promise<BrokerError> {
    const as = { outcome: "failed" as const, follows: recorded.id, reason: "contradiction" };
    await store.record({ ...recorded, id: newId(), at: clock.now(), ...as });
    return unavailable("The database contradicts itself just now.", cause);
  }

  return { ahead };
}

/** A reader that has what was read ahead, and asks the database for anything else. */
function readerWith(reader: Reader, plan: Plan, page: SettingPage | null): ReadingReader {
  if (page === null) return reader;
  const settings: Reader["settings"] = (query) =>
    isPlanned(query, plan, page) ? Promise.resolve(page) : reader.settings(query);
  const setting: Reader["setting"] = (key, path) => {
    const row = plan.strict ? page.rows.find(({ setting }) => setting.path === path) : undefined;
    return row === undefined ? reader.setting(key, path) : Promise.resolve<SettingRow>(row);
  };
  // The reader's methods are functions by themselves: none of them knows of the object.
  const planned = Object.create(reader) as { -readonly [Name in keyof ReadingReader]: ReadingReader[Name] };
  planned.isReadAhead = plan.select.kind !== "each" || page.rows.length === plan.select.paths.length;
  planned.settings = settings;
  planned.setting = setting;
  return planned;
}

function isPlanned(query: SettingQuery, plan: Plan, page: SettingPage): boolean {
  return (
    query.select === plan.select &&
    (query.sealed_bytes_max !== null) === (plan.action === "decrypt") &&
    !query.include_deleted &&
    query.type === null &&
    query.label === null &&
    query.after === null &&
    query.limit >= page.rows.length
  );
}

/** Whether the statement put on record what the gate would have. */
function isSameEvent(one: AuditEvent, other: AuditEvent): boolean {
  return (
    one.tenant_id === other.tenant_id &&
    one.principal_id === other.principal_id &&
    one.token_id === other.token_id &&
    one.owner_type === other.owner_type &&
    one.owner_id === other.owner_id &&
    one.action === other.action &&
    one.outcome === other.outcome &&
    one.path === other.path &&
    one.target_id === other.target_id &&
    one.reason === other.reason &&
    one.follows === other.follows &&
    Object.keys(other.details).length === 0 &&
    one.settings.length === other.settings.length &&
    one.settings.every(({ id, path, version }, index) => {
      const twin = other.settings[index];
      return twin?.id === id && twin.path === path && twin.version === version;
    })
  );
}
