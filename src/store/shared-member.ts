// One member's view of a transaction that many share. It reads as a Transaction does, by statements that are its mates'
// too; what it writes is kept until it is done, and is nothing if it fails. Whatever else a Transaction can do it
// cannot, nor read anything once it has written: who wants that is to go alone.
import type { Owner, SettingPath } from "../domain/address.ts";
import type { Admission, Credential, OwnerKey, PresentedToken, Transaction } from "../domain/ports.ts";
import type { SettingRow } from "../domain/setting.ts";
import type { AccessNotes } from "./access-notes.ts";
import type { Asker } from "./db.ts";
import { type Spot, admitMany, ownerManagersMany, settingMany } from "./lookups.ts";
import { countKeptIn } from "./settings-write.ts";
import type { Written } from "./shared-flush.ts";
import { heldKeyChecks, holdDataKeys, lockSpots } from "./shared-locks.ts";
import type { Kinds, Member } from "./shared-rounds.ts";

/** Never leaves the store: the member's work is done once more, in a transaction of its own. */
export class NotShared extends Error {}

export type SharedMember = Member & {
  readonly written: Written;
  /** Set with each NotShared, whatever the work makes of that. */
  goesAlone: boolean;
};

export function newMember(): SharedMember {
  const written = { setting: null, last: null, versions: [], events: [], changes: [] };
  return { asking: 0, isOver: false, goesAlone: false, written };
}

type Ahead = {
  readonly key: OwnerKey;
  readonly path: SettingPath;
  readonly keyCheck: Promise<Uint8Array | null> | null;
  readonly admission: Promise<Admission | null> | null;
  readonly setting: Promise<SettingRow | null> | null;
  readonly managers: ReturnType<Transaction["ownerManagers"]> | null;
};

const isPresented = (by: Credential | undefined): by is PresentedToken =>
  by?.kind === "api" || by?.kind === "access";

/** A Transaction for each member. `methods`: the names of all that a Transaction can do. */
export function createFacades(
  db: Asker,
  notes: AccessNotes,
  kind: Kinds,
  methods: ReadonlySet<string | symbol>,
  /** Is told of the paths that were made on the way. */
  made: Spot[],
): (member: SharedMember, by?: Credential) => Transaction {
  const lock = kind((asks: Parameters<typeof lockSpots>[1]) => lockSpots(db, asks, made), "lock");
  const keyCheck = kind((asks: readonly null[]) => heldKeyChecks(db, asks));
  const admit = kind((asks: Parameters<typeof admitMany>[2]) => admitMany(db, notes, asks));
  const setting = kind((asks: Parameters<typeof settingMany>[2]) => settingMany(db, notes, asks));
  const managers = kind((asks: Parameters<typeof ownerManagersMany>[1]) => ownerManagersMany(db, asks));
  const holdKey = kind((asks: Parameters<typeof holdDataKeys>[1]) => holdDataKeys(db, asks));
  const kept = kind((asks: readonly Parameters<Transaction["countKept"]>[]) =>
    countEach(countKeptIn(db), asks),
  );

  return (member, by) => {
    const { written } = member;
    /** What every write asks once it has its path's lock, asked together with that; each answer is given once. */
    let ahead: Ahead | null = null;
    function askAhead(key: OwnerKey, path: SettingPath): Ahead {
      const { owner_type, owner_id } = key;
      const presented = isPresented(by) ? by : null;
      const asked = {
        keyCheck: keyCheck(member, null),
        admission: presented === null ? null : admit(member, { presented, owner: { owner_type, owner_id } }),
        setting: setting(member, { key, path }),
        managers: managers(member, key),
      };
      // Where one fails all of the transaction does, and whoever waits for it is told so.
      for (const each of Object.values(asked)) each?.catch(() => undefined);
      return { key, path, ...asked };
    }
    /** Of the tenant, too, where that is asked for. */
    const isAt = (key: Owner & { readonly tenant_id?: string }, path = ahead?.path): boolean =>
      ahead?.key.owner_type === key.owner_type &&
      ahead.key.owner_id === key.owner_id &&
      (key.tenant_id === undefined || ahead.key.tenant_id === key.tenant_id) &&
      ahead.path === path;
    function taken<Name extends "keyCheck" | "admission" | "setting" | "managers">(
      name: Name,
    ): Ahead[Name] | null {
      const asked = ahead?.[name] ?? null;
      if (ahead !== null) ahead = { ...ahead, [name]: null };
      return asked;
    }
    const leave = (): never => {
      member.goesAlone = true;
      throw new NotShared();
    };
    const hasWritten = (): boolean =>
      written.setting !== null || written.last !== null || written.versions.length > 0;
    const stay = (): void => {
      if (member.goesAlone || hasWritten()) leave();
    };
    const known = {
      async lockPath(key, path) {
        stay();
        const locked = lock(member, { key, path });
        ahead = askAhead(key, path);
        return (await locked) ?? leave();
      },
      async heldKeyCheck() {
        stay();
        const held = await (taken("keyCheck") ?? keyCheck(member, null));
        if (held === null) throw new Error("the instance has a master key");
        return held;
      },
      async admit(presented, owner, lookup) {
        stay();
        if (lookup) leave();
        const asked = presented === by && owner !== null && isAt(owner) ? taken("admission") : null;
        return asked ?? admit(member, { presented, owner });
      },
      async setting(key, path) {
        stay();
        return (isAt(key, path) ? taken("setting") : null) ?? setting(member, { key, path });
      },
      async ownerManagers(key) {
        stay();
        return (isAt(key) ? taken("managers") : null) ?? managers(member, key);
      },
      async countKept(...asked) {
        stay();
        return kept(member, asked);
      },
      /** One that is gone, or somebody else's to remove, is looked at in a transaction of its own. */
      async holdDataKey(tenant_id, id) {
        stay();
        return (await holdKey(member, { tenant_id, id })) || leave();
      },

      async insertSetting(row) {
        if (written.setting !== null) leave();
        written.setting = { ...row, is_new: true };
      },
      async updateSetting(row) {
        if (written.setting !== null) leave();
        written.setting = { ...row, is_new: false };
      },
      async insertVersion(row) {
        written.versions.push(row);
      },
      async setLastVersion(key, path, version) {
        if (written.last !== null) leave();
        written.last = { key, path, version };
      },
      async record(event) {
        written.events.push(event);
      },
      async announce(changes) {
        written.changes.push(...changes);
      },
    } satisfies Partial<Transaction>;
    const refuse = async (): Promise<never> => leave();
    return new Proxy(known as Partial<Transaction> as Transaction, {
      get: (all, name) => Reflect.get(all, name) ?? (methods.has(name) ? refuse : undefined),
    });
  };
}

/** Of an owner that several members ask about, once. */
async function countEach(
  count: Transaction["countKept"],
  asks: readonly Parameters<Transaction["countKept"]>[],
): Promise<readonly number[]> {
  const known = new Map<string, number>();
  const answers: number[] = [];
  for (const [key, what, most] of asks) {
    const name = `${key.tenant_id}/${key.owner_type}/${key.owner_id}/${what}/${most}`;
    const answer = known.get(name) ?? (await count(key, what, most));
    known.set(name, answer);
    answers.push(answer);
  }
  return answers;
}
