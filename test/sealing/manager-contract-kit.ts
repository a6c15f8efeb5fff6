// What the contract of a cloud's manager needs of whoever runs it: managers, a look at what is really there, and, of a
// fake, trouble on demand.
import { randomUUID } from "node:crypto";
import type { CloudManager, Read, SecretAddress } from "../../src/domain/manager-ports.ts";

/** Kinds of trouble that either fake can make. */
export type ContractFault = {
  readonly kind: /** Refused with the manager's word for being asked too often, or for having no permission. */
    | "throttle"
    | "denied"
    /** The manager's word for a failure of its own. */
    | "unavailable"
    /** The connection goes before anything is done. */
    | "reset"
    /** It is done, and the connection goes before the answer. */
    | "cut_off"
    /** Neither done nor answered. */
    | "hang";
  /** How many calls pass first, of all that come, whatever else strikes them; none, unless said otherwise. */
  readonly skip?: number;
  /** How many calls it strikes; one, unless said otherwise. */
  readonly times?: number;
};

export type ContractFake = {
  fault(fault: ContractFault): void;
  clearFaults(): void;
  /** How many calls have come, of any kind. */
  calls(): number;
  /** How many of them a fault struck. */
  struck(): number;
};

export type ContractFixture = {
  readonly manager: CloudManager;
  /** As another replica has it: the same configuration, nothing shared. */
  readonly other: CloudManager;
  /** Moves the clock that both managers go by. */
  pass(milliseconds: number): void;
  /** What a secret holds, by version id and oldest first, as the vendor's plain SDK reads it; null where there is none. */
  held(address: SecretAddress): Promise<ReadonlyMap<string, string> | null>;
  /** A secret that the broker did not make, as somebody would name it. */
  foreign(text: string): Promise<SecretAddress>;
  /** An address like that of a foreign secret, where there is none. */
  nowhere(): SecretAddress;
  /** A version id of the vendor's form that no secret has. */
  noVersion(): string;
  /** Null when it is no fake: then nothing is made to go wrong. */
  readonly fake: ContractFake | null;
  /** True where a whole name is told by its grammar alone, without a call; `nowhere` then fails that. */
  readonly namesByGrammar?: boolean;
  /** True where a version that is no longer held cannot be read from that moment on. */
  readonly forgetsAtOnce: boolean;
  close(): Promise<void>;
};

/** Of every script and sort, since people name their things as they like. */
export const TAGS = {
  owner: "project/7c1e",
  path: "connect/S3/a@b_c.d-e",
  "what for": 'Ünïcode & <signs>, "quotes" 100 %',
};

/** What the tests of both halves go by; `fixture` is the one of the test that runs. */
export function createKit(fixture: () => ContractFixture) {
  const manager = (): CloudManager => fixture().manager;
  /** Where there may be secrets that a real manager would keep, and charge for. */
  const made: SecretAddress[] = [];

  /** The address of a new secret of ours. */
  function address(): { readonly id: string; readonly at: SecretAddress } {
    const id = randomUUID();
    const at = manager().addressOf(id);
    made.push(at);
    return { id, at };
  }

  async function write(at: SecretAddress, text: string, kept: readonly string[] = [], token = randomUUID()) {
    const { version_id } = await manager().write({ address: at, token, text, tags: TAGS, kept });
    return version_id;
  }

  async function readOne(at: SecretAddress, version_id: string, by = manager()): Promise<Read> {
    const [read] = await by.read([{ ...at, version_id }]);
    if (read === undefined) throw new Error("no result");
    return read;
  }

  async function close(): Promise<void> {
    fixture().fake?.clearFaults();
    for (const at of fixture().fake === null ? made.splice(0) : [])
      await manager().reconcile(at, [], null, []);
    await fixture().close();
  }

  return { manager, address, write, readOne, close };
}

export type ContractKit = ReturnType<typeof createKit>;
