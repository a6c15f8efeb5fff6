// Writing to AWS Secrets Manager so that any call may have been made before: a version's id is the token that was chosen
// for it, labels are looked at before they are moved, and a move that fails is well if the label is where it should be.
// Called by one at a time for a secret; it may be cut off at any point and is then called again.
// It touches no secret but the one it is given, and no version but as `kept`, `keep` and `gone` say.
import { BrokerError } from "../domain/errors.ts";
import type { NewVersion, SecretAddress, SecretTags } from "../domain/manager-ports.ts";
import {
  CURRENT,
  type Stages,
  freeLabel,
  holderOf,
  labelOf,
  moved,
  stagesFrom,
  strays,
} from "./aws-labels.ts";
import type { AwsRegion, AwsRegions } from "./aws-regions.ts";
import type { Budget } from "./manager-calls.ts";
import { type Failure, type OperationKind, failureError, failureOf } from "./manager-failures.ts";

const TEXT_BYTES_MAX = 65_536;
const TAG_LENGTH_MAX = 256;
const DESCRIPTION_LENGTH_MAX = 2_048;

/** A secret under way: whose, for how long, and what for. */
type Work = {
  readonly region: AwsRegion;
  readonly secretId: string;
  readonly budget: Budget;
  readonly kind: OperationKind;
};

export function createAwsVersions(regions: AwsRegions, kmsKeyId: string | null) {
  const begin = (address: SecretAddress, kind: OperationKind): Work => ({
    ...regions.at(address),
    budget: regions.budget(),
    kind,
  });

  /** False when there is such a secret already. */
  async function create({ region, secretId, budget }: Work, token: string, text: string, tags: SecretTags) {
    const input = {
      Name: secretId,
      ClientRequestToken: token,
      SecretString: text,
      Description: describe(tags),
      Tags: Object.entries(tags).map(([Key, value]) => ({ Key, Value: tagText(value) })),
      ...(kmsKeyId === null ? {} : { KmsKeyId: kmsKeyId }),
    };
    const done = await unless(["exists"], () =>
      region.call("CreateSecret", "write", budget, (client, options) => client.createSecret(input, options)),
    );
    return done !== null;
  }

  /** Null where there is no such secret. */
  async function look({ region, secretId, budget, kind }: Work): Promise<Stages | null> {
    const output = await unless(["absent"], () =>
      region.call("DescribeSecret", kind, budget, (client, options) =>
        client.describeSecret({ SecretId: secretId }, options),
      ),
    );
    return output === null ? null : stagesFrom(output.VersionIdsToStages ?? {});
  }

  /** Moves a label to a version, or off (null); how things are then. */
  async function put(work: Work, stages: Stages, label: string, to: string | null): Promise<Stages> {
    const from = holderOf(stages, label);
    if (from === to) return stages;
    const { region, secretId, budget, kind } = work;
    const input = {
      SecretId: secretId,
      VersionStage: label,
      ...(from === null ? {} : { RemoveFromVersionId: from }),
      ...(to === null ? {} : { MoveToVersionId: to }),
    };
    try {
      await region.call("UpdateSecretVersionStage", kind, budget, (client, options) =>
        client.updateSecretVersionStage(input, options),
      );
      return moved(stages, label, to);
    } catch (error) {
      // A move that was made and then cut off is refused when it is made again.
      if (!["rejected", "absent"].includes(failureOf(error) ?? "")) throw error;
      const now = await look(work);
      if (now === null || holderOf(now, label) !== to) throw error;
      return now;
    }
  }

  /** Sees that a version which is there is current and has a label of ours. */
  async function hold(work: Work, before: Stages, token: string, kept: readonly string[]): Promise<void> {
    let stages = before;
    if (labelOf(stages, token) === null) {
      const label = freeLabel(stages, kept);
      if (label !== null) stages = await put(work, stages, label, token);
    }
    await put(work, stages, CURRENT, token);
  }

  /** Also where it is there already: AWS then sees that it is the same text, and refuses another. */
  async function add(work: Work, before: Stages, { token, text, kept }: NewVersion): Promise<void> {
    const { region, secretId, budget } = work;
    const label = labelOf(before, token) ?? freeLabel(before, kept);
    const wanted = label === null ? [CURRENT] : [label, CURRENT];
    const input = {
      SecretId: secretId,
      ClientRequestToken: token,
      SecretString: text,
      VersionStages: wanted,
    };
    const { VersionStages: given = [] } = await region.call(
      "PutSecretValue",
      "write",
      budget,
      (client, options) => client.putSecretValue(input, options),
    );
    // With a version that was there, the call succeeds and does nothing: also nothing to its labels.
    if (wanted.every((each) => given.includes(each))) return;
    const stages = await look(work);
    if (stages !== null) await hold(work, stages, token, kept);
  }

  /** Those that a read by id no longer finds. */
  async function confirm(work: Work, gone: readonly string[], signs: readonly Failure[]) {
    const { region, secretId, budget } = work;
    const isGone = async (id: string): Promise<boolean> => {
      try {
        const input = { SecretId: secretId, VersionId: id };
        await region.call("GetSecretValue", "read", budget, (client, options) =>
          client.getSecretValue(input, options),
        );
        return false;
      } catch (error) {
        if (!(error instanceof BrokerError)) throw error;
        // Whatever else went wrong: it is not known to be gone, and will be asked for again.
        return signs.includes(failureOf(error) ?? "rejected");
      }
    };
    // Oldest first, and no further than the first that is still there: AWS drops them in that order, in its own time.
    const confirmed: string[] = [];
    for (const id of gone) {
      if (!(await isGone(id))) break;
      confirmed.push(id);
    }
    return confirmed;
  }

  async function remove(work: Work): Promise<void> {
    const { region, secretId, budget } = work;
    const input = { SecretId: secretId, ForceDeleteWithoutRecovery: true };
    await unless(["absent"], () =>
      region.call("DeleteSecret", "delete", budget, (client, options) => client.deleteSecret(input, options)),
    );
  }

  async function write(version: NewVersion): Promise<{ readonly version_id: string }> {
    const { address, token, tags, kept } = version;
    const text = within(version.text);
    const work = begin(address, "write");
    const isNew = kept.length === 0 && (await create(work, token, text, tags));
    if (isNew) {
      await hold(work, new Map([[token, new Set([CURRENT])]]), token, kept);
      return { version_id: token };
    }
    let stages = await look(work);
    if (stages === null) {
      // It was there, or should have been, and is not: what is written now has to be kept all the same.
      await create(work, token, text, tags);
      stages = await look(work);
    }
    if (stages === null)
      throw failureError("DescribeSecret", "write", { failure: "absent", name: "Vanished" });
    // One that was written when all labels were taken has AWSCURRENT alone, which it is about to lose.
    for (const id of kept) {
      const label = labelOf(stages, id) === null && stages.has(id) ? freeLabel(stages, kept) : null;
      if (label !== null) stages = await put(work, stages, label, id);
    }
    await add(work, stages, version);
    return { version_id: token };
  }

  async function reconcile(
    address: SecretAddress,
    keep: readonly string[],
    current: string | null,
    gone: readonly string[],
  ): Promise<readonly string[]> {
    const work = begin(address, "delete");
    if (keep.length === 0) {
      await remove(work);
      // It goes in its own time; while it does, it is marked, and gives nothing out.
      return confirm(work, gone, ["absent", "scheduled_for_deletion"]);
    }
    let stages = await look(work);
    if (stages === null) return gone;
    /** A version that lost its labels may still be there, to be held again; one that is not cannot be: its reads tell. */
    const hold = async (label: string, id: string): Promise<void> => {
      const before: Stages = stages ?? new Map();
      const signs: readonly Failure[] = before.has(id) ? [] : ["absent", "rejected"];
      stages = (await unless(signs, () => put(work, before, label, id))) ?? before;
    };
    const target = current ?? keep.at(-1);
    if (target !== undefined) await hold(CURRENT, target);
    for (const id of keep) {
      const label = labelOf(stages, id) === null ? freeLabel(stages, keep) : null;
      if (label !== null) await hold(label, id);
    }
    for (const label of strays(stages, keep)) stages = await put(work, stages, label, null);
    // One that is scheduled for deletion gives nothing out, but can be restored.
    return confirm(work, gone, ["absent"]);
  }

  return {
    /** Sees that there is such a secret; how to go on with it, within the same deadline. */
    async create(address: SecretAddress, token: string, text: string, tags: SecretTags): Promise<Work> {
      const work = begin(address, "write");
      await create(work, token, within(text), tags);
      return work;
    },
    /** See `CloudManager`. */
    write,
    reconcile,
  };
}

/** Null where the work failed in one of the ways that are well. */
async function unless<T>(failures: readonly Failure[], work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    const failure = failureOf(error);
    if (failure !== null && failures.includes(failure)) return null;
    throw error;
  }
}

/** @throws BrokerError `too_large` */
function within(text: string): string {
  if (Buffer.byteLength(text) <= TEXT_BYTES_MAX) return text;
  throw failureError("check", "write", { failure: "too_large", name: "TooManyBytes" });
}

/** Letters, digits, space and `_.:/=+-@` are all that AWS takes in a tag. */
const tagText = (text: string): string =>
  text.replaceAll(/[^\p{L}\p{Z}\p{N}_.:/=+\-@]/gu, "_").slice(0, TAG_LENGTH_MAX);

/** Has the tags too, since a long path does not fit into one. */
function describe(tags: SecretTags): string {
  const facts = Object.entries(tags).map(([key, value]) => `${key}=${value}`);
  return ["Made by Coffer, which alone may change it.", ...facts].join(" ").slice(0, DESCRIPTION_LENGTH_MAX);
}
