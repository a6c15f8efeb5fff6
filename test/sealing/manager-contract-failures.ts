// The second half of the contract of a cloud's manager: what it promises when things go wrong. Everything that goes
// wrong here is made to, by a fake; against a real manager only the first half runs.
import { randomUUID } from "node:crypto";
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import type { CloudManager, SecretAddress } from "../../src/domain/manager-ports.ts";
import { type ContractFault, type ContractFixture, type ContractKit, TAGS } from "./manager-contract-kit.ts";

const CANARY = "canary-4f9d1c7e5b";
/** The budget is 4 s; the rest is for a machine that has other things to do. */
const SETTLED_MS = 9_000;
const PAUSE_MS = 5_000;

type Kind = ContractFault["kind"];

/** What each kind of trouble is told as when it lasts. */
const TOLD: readonly (readonly [Kind, string, number | undefined])[] = [
  ["throttle", "unavailable", 2],
  ["unavailable", "unavailable", 1],
  ["reset", "unavailable", 1],
  ["denied", "manager_failed", undefined],
];

/** What the caller of a failed call learns, and whatever can be found behind it. */
async function failureOf(work: Promise<unknown>): Promise<BrokerError> {
  const error = await work.then(
    (value) => {
      const { kind, error: found } = (value ?? {}) as { readonly kind?: string; readonly error?: unknown };
      return kind === "failed" ? found : new Error(`it did not fail: ${inspect(value)}`);
    },
    (reason: unknown) => reason,
  );
  if (!(error instanceof BrokerError)) throw error;
  return error;
}

export function failureContract(name: string, fixture: () => ContractFixture, kit: ContractKit): void {
  const { manager, address, write, readOne } = kit;

  function fake() {
    const { fake } = fixture();
    if (fake === null) throw new Error("only a fake fails on demand");
    return fake;
  }

  type Given = { readonly id: string; readonly at: SecretAddress; readonly held: string };

  /** A secret that holds one version. */
  async function one(): Promise<Given> {
    const { id, at } = address();
    return { id, at, held: await write(at, CANARY) };
  }

  /** All that can be asked of a manager. */
  const USES: Readonly<Record<string, (given: Given) => Promise<unknown>>> = {
    read: ({ at, held }) => readOne(at, held),
    write: ({ at, held }) =>
      manager().write({ address: at, token: randomUUID(), text: CANARY, tags: TAGS, kept: [held] }),
    ensure: ({ id, at }) => manager().ensure(id, at, CANARY, TAGS),
    reconcile: ({ at, held }) => manager().reconcile(at, [held], held, []),
    removal: ({ at, held }) => manager().reconcile(at, [], null, [held]),
    check: () => manager().check(),
    canonical: ({ at }) => manager().canonical(at),
  };
  /** A whole name that is told by its grammar takes no call, so that nothing can go wrong with it. */
  const isCall = (use: string): boolean => use !== "canonical" || fixture().namesByGrammar !== true;

  describe(`manager ${name}: failures`, () => {
    /** Everything of the table that can be seen from outside. */
    async function see(kind: Kind, code: string, retryAfter: number | undefined, use: string): Promise<void> {
      if (!isCall(use)) return;
      const given = await one();
      fake().fault({ kind, times: Number.POSITIVE_INFINITY });
      const start = performance.now();
      const error = await failureOf(USES[use]?.(given) ?? Promise.resolve());
      // What may not be described is as good as absent: whoever asked may have no right to know more.
      const told = use === "canonical" && kind === "denied" ? "not_found" : code;
      expect([use, error.code, error.fields.retry_after_seconds]).toEqual([use, told, retryAfter]);
      expect(performance.now() - start).toBeLessThan(SETTLED_MS);
      expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain(CANARY);
    }

    describe.each(TOLD)("%s", (kind, code, retryAfter) => {
      test.each(Object.keys(USES))(`%s is told as ${code}, and quotes nothing`, async (use) => {
        await see(kind, code, retryAfter, use);
      });

      test("a value that cannot be had for that reason is not told to be absent", async () => {
        const { at, held } = await one();
        fake().fault({ kind, times: Number.POSITIVE_INFINITY });
        expect(await readOne(at, held)).toMatchObject({ kind: "failed", absent: false });
      });
    });

    // Each takes all of its 4 s; what the table says of the others they have in common.
    test.each(["read", "write"])("a manager that never answers a %s is given up in time", async (use) => {
      await see("hang", "unavailable", 1, use);
    });

    test("a manager that answers nothing is given up by all who wait for it", async () => {
      const given = await one();
      fake().fault({ kind: "hang", times: Number.POSITIVE_INFINITY });
      const uses = Object.entries(USES).filter(([use]) => isCall(use));
      const errors = uses.map(([, use]) => failureOf(use(given)));
      expect(new Set((await Promise.all(errors)).map(({ code }) => code))).toEqual(new Set(["unavailable"]));
    });

    test.each(["throttle", "unavailable", "reset", "cut_off"] as const)(
      "a read that meets %s once is made again",
      async (kind) => {
        const { at, held } = await one();
        fake().fault({ kind });
        expect(await readOne(at, held)).toEqual({ kind: "text", text: CANARY, version_id: held });
        expect(fake().struck()).toBe(1);
      },
    );

    test("trouble with one of many is that one's alone", async () => {
      const [a, b] = [await one(), await one()];
      const reads = await manager().read([
        { ...a.at, version_id: a.held },
        { ...a.at, version_id: fixture().noVersion() },
        { ...b.at, version_id: b.held },
      ]);
      expect(reads.map(({ kind }) => kind)).toEqual(["text", "failed", "text"]);
    });

    test("a manager that is away is left alone for a while, then tried by one call, then used again", async () => {
      const { at, held } = await one();
      fake().fault({ kind: "unavailable", times: Number.POSITIVE_INFINITY });
      // Each read is up to three calls, and five in a row are enough.
      for (let n = 0; n < 3; n += 1) await readOne(at, held);
      const before = fake().calls();
      const error = await failureOf(readOne(at, held));
      expect(error.code).toBe("unavailable");
      expect(error.fields.retry_after_seconds).toBeGreaterThanOrEqual(1);
      expect(fake().calls()).toBe(before);
      fixture().pass(PAUSE_MS);
      await readOne(at, held);
      expect(fake().calls()).toBe(before + 1);
      fake().clearFaults();
      expect(await readOne(at, held)).toMatchObject({ kind: "failed" });
      fixture().pass(PAUSE_MS);
      const reads = await Promise.all([readOne(at, held), readOne(at, held)]);
      expect(reads.map(({ kind }) => kind)).toEqual(["text", "text"]);
    });

    test("a manager that throttles or denies is not taken to be away", async () => {
      const { at, held } = await one();
      fake().fault({ kind: "denied", times: 4 });
      fake().fault({ kind: "throttle", times: 8 });
      for (let n = 0; n < 8; n += 1) await readOne(at, held);
      expect(fake().struck()).toBe(12);
      expect(await readOne(at, held)).toMatchObject({ kind: "text" });
    });
  });

  describe(`manager ${name}: cut off at any call`, () => {
    /**
     * Does `act` once for each call that it makes: that call is applied and cut off. Either that is all, and the manager
     * has to get over it, or nothing gets through after it, as when a process is killed. Then another replica does all of
     * it again. `see` looks at what there is.
     */
    async function atEachCall<Case>(
      begin: () => Promise<Case>,
      act: (given: Case, by: CloudManager) => Promise<unknown>,
      see: (given: Case, outcome: unknown) => Promise<void>,
      crash: boolean,
    ): Promise<void> {
      for (let skip = 0; ; skip += 1) {
        const given = await begin();
        fake().clearFaults();
        const struck = fake().struck();
        fake().fault({ kind: "cut_off", skip });
        if (crash) fake().fault({ kind: "reset", skip: skip + 1, times: Number.POSITIVE_INFINITY });
        const outcome = await act(given, manager()).catch((error: unknown) => {
          if (!crash || !(error instanceof BrokerError)) throw error;
        });
        const isOver = fake().struck() === struck;
        // Looking is not to be struck.
        fake().clearFaults();
        if (!crash) await see(given, outcome);
        fixture().pass(PAUSE_MS);
        await see(given, await act(given, fixture().other));
        if (isOver) {
          // It took one call at the least.
          expect(skip).toBeGreaterThan(0);
          return;
        }
      }
    }

    describe.each([
      ["and nothing else", false],
      ["as by a kill", true],
    ])("%s", (_, crash) => {
      test("a first write leaves one secret with one version", async () => {
        await atEachCall(
          async () => ({ at: address().at, token: randomUUID() }),
          ({ at, token }, by) => by.write({ address: at, token, text: "one", tags: TAGS, kept: [] }),
          async ({ at }, outcome) => {
            const { version_id } = outcome as { readonly version_id: string };
            expect([...((await fixture().held(at)) ?? [])]).toEqual([[version_id, "one"]]);
            expect(await readOne(at, "latest")).toMatchObject({ text: "one", version_id });
          },
          crash,
        );
      });

      test("a next write leaves one version more, which is the latest", async () => {
        await atEachCall(
          async () => ({ ...(await one()), token: randomUUID() }),
          ({ at, held, token }, by) =>
            by.write({ address: at, token, text: "two", tags: TAGS, kept: [held] }),
          async ({ at, held }, outcome) => {
            const { version_id } = outcome as { readonly version_id: string };
            expect([...((await fixture().held(at)) ?? [])]).toEqual([
              [held, CANARY],
              [version_id, "two"],
            ]);
            expect(await readOne(at, "latest")).toMatchObject({ text: "two", version_id });
          },
          crash,
        );
      });

      test("ensure leaves one secret with one version, and answers that one's text", async () => {
        await atEachCall(
          async () => address(),
          ({ id, at }, by) => by.ensure(id, at, by === manager() ? "first" : "second", TAGS),
          async ({ at }, outcome) => {
            const { text } = outcome as { readonly text: string };
            expect([...((await fixture().held(at)) ?? new Map()).values()]).toEqual([text]);
          },
          crash,
        );
      });

      test("a reconcile leaves what is to be kept", async () => {
        await atEachCall(
          async () => {
            const { at, held: a } = await one();
            const b = await write(at, "b", [a]);
            const c = await write(at, "c", [a, b]);
            return { at, a, b, c };
          },
          ({ at, a, b, c }, by) => by.reconcile(at, [b], b, [a, c]),
          async ({ at, a, b, c }, outcome) => {
            expect(outcome).toEqual([a, c]);
            expect([...((await fixture().held(at)) ?? [])]).toEqual([[b, "b"]]);
          },
          crash,
        );
      });

      test("a removal leaves nothing", async () => {
        await atEachCall(
          one,
          ({ at, held }, by) => by.reconcile(at, [], null, [held]),
          async ({ at, held }, outcome) => {
            expect(outcome).toEqual([held]);
            expect(await fixture().held(at)).toBeNull();
          },
          crash,
        );
      });
    });
  });
}
