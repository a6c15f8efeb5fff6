// How versions come to be and go in Secret Manager, so that a call that was cut off, repeated, or raced leaves what one
// call would have left. There is no token to repeat a call by: after an outcome that nobody knows, the versions are
// looked at, and one that holds just this text and that the database does not point at is taken for ours. What else lies
// there unpointed-at is left alone here; `reconcile` destroys it.
import type { NewVersion, Read, SecretTags } from "../domain/manager-ports.ts";
import type { GcpApi, Listed } from "./gcp-api.ts";
import { type SecretName, byNumber, isNumber, isOurs, newest } from "./gcp-names.ts";
import type { Budget } from "./manager-calls.ts";
import { ManagerCallError, failureError, failureOf } from "./manager-failures.ts";

/** gRPC's code. */
const ALREADY_EXISTS = 6;
/** What Secret Manager takes of one version; https://cloud.google.com/secret-manager/quotas */
const TEXT_BYTES_MAX = 65_536;
/** The number of a secret's first version. */
const FIRST = "1";
/** No UTF-8, so that it can never be read as a value. */
const PLACEHOLDER = Buffer.of(0xff);

type ReadOne = (name: SecretName, version: string, budget: Budget) => Promise<Read>;

export function createGcpWrites(api: GcpApi, readOne: ReadOne) {
  /** True when this call made it, as far as can be known; false when it is an older one of ours. */
  async function create(name: SecretName, tags: SecretTags, budget: Budget): Promise<boolean> {
    try {
      await api.create(name, tags, budget);
      return true;
    } catch (error) {
      if (failureOf(error) !== "exists") throw error;
      if (isOurs(await annotationsOf(name, error, budget), name)) return false;
      throw error;
    }
  }

  /** @param refused why it could not be made */
  async function annotationsOf(name: SecretName, refused: unknown, budget: Budget) {
    try {
      return await api.annotations(name, "write", budget);
    } catch (error) {
      if (failureOf(error) !== "absent") throw error;
      if (!isTaken(refused)) throw refused instanceof Error ? refused : error;
      // It exists and cannot be seen: either is older news than the other, and passes.
      throw failureError("GetSecret", "write", { failure: "away", name: "NotYetVisible" });
    }
  }

  /**
   * The oldest version that this very write, or an earlier attempt at it, has left; what others it has left are
   * destroyed. Null when there is none.
   * @param next the number that a version which no list shows yet would have; null where none is to be expected
   */
  async function adopt(
    name: SecretName,
    text: string,
    versions: readonly Listed[],
    kept: readonly string[],
    next: string | null,
    budget: Budget,
  ): Promise<string | null> {
    const candidates = versions
      .filter(({ number, state }) => state === "enabled" && BigInt(number) > newest(kept))
      .map(({ number }) => number);
    if (next !== null) candidates.push(next);
    const same = await Promise.all(
      candidates.map(async (number) => ((await holds(name, number, text, budget)) ? [number] : [])),
    );
    const [ours, ...others] = same.flat().toSorted(byNumber);
    await Promise.all(others.map((number) => discard(name, number, budget)));
    return ours ?? null;
  }

  async function holds(name: SecretName, number: string, text: string, budget: Budget): Promise<boolean> {
    try {
      return (await api.access(name, number, budget)).text === text;
    } catch (error) {
      const failure = failureOf(error);
      if (failure === "absent" || failure === "disabled") return false;
      throw error;
    }
  }

  /** Of what is discarded nobody holds the number: where it does not go now, `reconcile` sees to it. */
  async function discard(name: SecretName, number: string, budget: Budget): Promise<void> {
    await destroyed(name, number, budget).catch(() => false);
  }

  /** Adds a version, just once as far as can be known. */
  async function add(
    name: SecretName,
    text: string,
    kept: readonly string[],
    budget: Budget,
  ): Promise<string> {
    const data = Buffer.from(text);
    try {
      return await api.add(name, data, budget);
    } catch (error) {
      const failure = failureOf(error);
      // A damaged payload was refused, and so was not added.
      if (failure === "checksum") return await api.add(name, data, budget);
      if (failure !== "away") throw error;
      // Nobody knows whether it was done. The list may lag, while access by number never does, and numbers are given
      // in turn: so the next one is asked for too. It costs an error, which is dear, and is not done without need.
      const versions = await api.versions(name, "write", budget);
      const next = newest([...kept, ...versions.map(({ number }) => number)]) + 1n;
      const ours = await adopt(name, text, versions, kept, String(next), budget);
      return ours ?? (await api.add(name, data, budget));
    } finally {
      data.fill(0);
    }
  }

  /**
   * Where a secret was taken away behind our back its numbers start anew, and a number that the database points at
   * must never come to hold another value: so those are used up first.
   */
  async function passNumbers(
    name: SecretName,
    versions: readonly Listed[],
    kept: readonly string[],
    budget: Budget,
  ): Promise<void> {
    let last = newest(versions.map(({ number }) => number));
    while (last < newest(kept)) {
      const number = await api.add(name, PLACEHOLDER, budget);
      await discard(name, number, budget);
      last = BigInt(number);
    }
  }

  /**
   * Destroys one version; true when it is then known to be gone for good. False where somebody has set a TTL for that:
   * until then it is disabled, and could be enabled again.
   */
  async function destroyed(name: SecretName, number: string, budget: Budget): Promise<boolean> {
    const state = await api.destroy(name, number, budget).catch(async (error: unknown) => {
      const failure = failureOf(error);
      if (failure === "absent") return "destroyed";
      if (failure !== "disabled" && failure !== "exists") throw error;
      // Refused for the state that it is in; that it is destroyed already is told in the same words.
      const found = await api.state(name, number, budget);
      if (found === "enabled") throw error;
      return found;
    });
    return state === "destroyed";
  }

  return {
    async write(name: SecretName, version: NewVersion, budget: Budget): Promise<string> {
      const { text, tags } = version;
      // A version that is being destroyed has a number that the database knows as well.
      const kept = [...version.kept, ...(version.ending ?? [])];
      if (Buffer.byteLength(text) > TEXT_BYTES_MAX)
        throw failureError("AddSecretVersion", "write", { failure: "too_large", name: "NotSent" });
      const isNew = kept.length === 0 && (await create(name, tags, budget));
      if (isNew) return add(name, text, kept, budget);
      const versions = await unlessAbsent(api.versions(name, "write", budget));
      if (versions === null) await create(name, tags, budget);
      const there = versions ?? [];
      const ours = await adopt(name, text, there, kept, null, budget);
      if (ours !== null) return ours;
      await passNumbers(name, there, kept, budget);
      return add(name, text, kept, budget);
    },

    async ensure(name: SecretName, text: string, tags: SecretTags, budget: Budget): Promise<Read> {
      const isNew = await create(name, tags, budget);
      const there = isNew ? null : await readOne(name, FIRST, budget);
      if (there !== null && (there.kind === "text" || failureOf(there.error) !== "absent")) return there;
      try {
        const number = await add(name, text, [], budget);
        if (number !== FIRST) await discard(name, number, budget);
      } catch (error) {
        if (failureOf(error) !== "exists") throw error;
        // Refused for what another does at the same time: then it is there.
        const theirs = await readOne(name, FIRST, budget);
        if (theirs.kind === "text") return theirs;
        throw error;
      }
      // Read back even where it is our own: what is sealed under a key that cannot be had again is lost.
      return readOne(name, FIRST, budget);
    },

    async reconcile(
      name: SecretName,
      keep: readonly string[],
      gone: readonly string[],
      budget: Budget,
    ): Promise<readonly string[]> {
      if (keep.length === 0) {
        await unlessAbsent(api.remove(name, budget));
        return gone;
      }
      const versions = await unlessAbsent(api.versions(name, "delete", budget));
      if (versions === null) return gone;
      const states = new Map(versions.map(({ number, state }) => [number, state]));
      // Those that are to be gone are asked about one by one where the list, which may lag, does not have them.
      const doomed = [...new Set([...states.keys(), ...gone])].filter(
        (number) => isNumber(number) && !keep.includes(number) && states.get(number) !== "destroyed",
      );
      const results = await Promise.allSettled(
        doomed.map(async (number) => {
          if (await destroyed(name, number, budget)) states.set(number, "destroyed");
        }),
      );
      const failed = results.find((result) => result.status === "rejected");
      if (failed !== undefined) throw failed.reason;
      return gone.filter((number) => states.get(number) === "destroyed");
    },
  };
}

/** Whether a failure says that the very name is taken, and not that some other condition does not hold. */
function isTaken(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof ManagerCallError && cause.facts.status === ALREADY_EXISTS;
}

/** Null where the secret is not there. */
async function unlessAbsent<T>(call: Promise<T>): Promise<T | null> {
  try {
    return await call;
  } catch (error) {
    if (failureOf(error) === "absent") return null;
    throw error;
  }
}
