// A change that begins with its transaction, at the seam between gate and store: what the gate does with each way in which
// that may come to nothing.
import { randomUUID } from "node:crypto";
import { expect, test } from "vitest";
import type { Caller, Need } from "../../src/domain/admission.ts";
import type { AuditEvent } from "../../src/domain/audit.ts";
import type { SettingPath } from "../../src/domain/address.ts";
import { BrokerError, unavailable } from "../../src/domain/errors.ts";
import { createGate } from "../../src/domain/gate.ts";
import type { Admission, Store, Transaction } from "../../src/domain/ports.ts";
import { Busy, Stale, type WritePlace } from "../../src/domain/steps.ts";

const AT = new Date("2026-01-01T00:00:00Z");
const owner = { owner_type: "project", owner_id: randomUUID() } as const;
const path = "connect/S3/a" as SettingPath;
const caller: Caller = {
  credential: { kind: "api", hash: Buffer.alloc(32) },
  context: { request_id: "r", operation: "o", ip: null, user_agent: null },
};
const need: Need = { ask: { action: "write", path, breadth: "whole" }, place: { kind: "owner", owner } };
const admission = {
  token: {
    id: "t",
    principal_id: "p",
    scopes: [],
    max_uses: null,
    uses: 0,
    allowed_cidrs: [],
    expires_at: null,
    revoked_at: null,
  },
  principal: {
    id: "p",
    kind: "user",
    name: "p",
    admin: false,
    organization_id: null,
    scopes: [],
    disabled_at: null,
  },
  standing: { owner, tenant_id: "tenant", role_at_owner: "owner", role_at_organization: null },
  owns_an_organization: false,
} as unknown as Admission;

/**
 * A gate whose caller has written once; `atOnce` is what the store makes of the next attempt that may only share, and
 * `afterwards` what happens when it is applied.
 */
async function whoHasWritten(
  atOnce: (work: () => Promise<unknown>) => Promise<unknown>,
  afterwards: () => void = () => undefined,
) {
  const tried: string[] = [];
  const tenants = new Set<unknown>();
  let admissions = 0;
  let known = admission;
  const admit = async (): Promise<Admission> => {
    admissions += 1;
    return known;
  };
  const events: AuditEvent[] = [];
  const record = async (event: AuditEvent): Promise<void> => void events.push(event);
  const tx = { admit, record, announce: async () => undefined };
  const store = {
    reader: {},
    admit,
    noteTokenUse: () => undefined,
    record,
    async transact(
      work: (tx: Transaction) => Promise<unknown>,
      { place, tenant }: { place?: WritePlace; tenant?: string | null } = {},
    ) {
      tried.push(place?.only ?? "usual");
      tenants.add(tenant);
      const run = () => work(tx as unknown as Transaction);
      return place?.only === "shared" ? atOnce(run) : run();
    },
  } as unknown as Store;
  const refusals = { max: 9, count: () => 0 };
  const gate = createGate({ store, clock: { now: () => AT }, newId: randomUUID, refusals });
  const change = () =>
    gate.change(caller, need, {
      at: { owner, path },
      atOnce: () => null,
      prepare: async () => null,
      lock: async () => null,
      apply: async () => {
        onApply();
        return { result: "done", subjects: [] };
      },
    });
  let onApply = (): void => undefined;
  await change();
  onApply = afterwards;
  expect(tried.splice(0)).toEqual(["usual"]);
  events.length = 0;
  return {
    gate,
    change,
    tried,
    /** Whose turns were taken. */
    tenants,
    become: (over: Partial<Admission>) => {
      known = { ...known, ...over };
    },
    outcomes: () => events.map(({ outcome }) => outcome),
    /** How often it was asked who calls. */
    admissions: () => admissions,
  };
}

test("it goes the usual way where it would have to wait, and begins so again the next time", async () => {
  const { change, tried, tenants, outcomes } = await whoHasWritten(() => Promise.reject(new Busy()));
  for (let times = 0; times < 2; times++) expect(await change()).toBe("done");
  expect(tried).toEqual(["shared", "usual", "shared", "usual"]);
  expect([...tenants]).toEqual(["tenant"]);
  expect(outcomes()).toEqual(["allowed", "allowed"]);
});

test("it goes the usual way where something is missing, and does so at first from then on", async () => {
  const { change, tried } = await whoHasWritten(() => Promise.reject(new Stale()));
  for (let times = 0; times < 2; times++) expect(await change()).toBe("done");
  expect(tried).toEqual(["shared", "usual", "usual"]);
});

test("a database that cannot be had is waited for once: who was not let in is asked about no more", async () => {
  const { change, tried, outcomes, admissions } = await whoHasWritten(() =>
    Promise.reject(unavailable("away")),
  );
  const before = admissions();
  await expect(change()).rejects.toMatchObject({ code: "unavailable" });
  expect(tried).toEqual(["shared"]);
  expect(admissions()).toBe(before);
  expect(outcomes()).toEqual([]);
});

test("what fails once its maker was let in is on record, and is not tried anew", async () => {
  const { change, tried, outcomes, admissions } = await whoHasWritten(
    async (work) => work(),
    () => {
      throw new BrokerError("conflict", "taken");
    },
  );
  const before = admissions();
  await expect(change()).rejects.toMatchObject({ code: "conflict" });
  expect(tried).toEqual(["shared"]);
  expect(admissions()).toBe(before + 1);
  expect(outcomes()).toEqual(["failed"]);
});

test("what may have been committed is not run again", async () => {
  const { change, tried, outcomes } = await whoHasWritten(async (work) => {
    await work();
    throw unavailable("nobody knows");
  });
  await expect(change()).rejects.toMatchObject({ code: "unavailable" });
  expect(tried).toEqual(["shared"]);
  expect(outcomes()).toEqual(["allowed", "failed"]);
});

test("who signs in waits in a line of their own, not with what everybody needs", async () => {
  const { gate, tenants } = await whoHasWritten((work) => work());
  tenants.clear();
  const key = { ...owner, tenant_id: "tenant" };
  const apply = async () => ({ result: 1, subjects: [], principal_id: "p", token_id: "t", key });
  expect(await gate.signIn(caller.context, null, "unauthenticated", apply)).toBe(1);
  expect([...tenants]).toEqual(["signing in"]);
});

test("who changes what is of no tenant waits in a line of their own, too", async () => {
  const { gate, tenants, become } = await whoHasWritten((work) => work());
  become({ principal: { ...admission.principal, admin: true }, standing: null });
  tenants.clear();
  const instance: Need = { ask: { action: "administer" }, place: { kind: "instance" } };
  const steps = { prepare: async () => null, lock: async () => null };
  await gate.change(caller, instance, { ...steps, apply: async () => ({ result: 1, subjects: [] }) });
  expect([...tenants]).toEqual(["p"]);
});
