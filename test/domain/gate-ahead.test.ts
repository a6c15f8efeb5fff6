// The gate decides again what the store's statement decided: where the two do not agree, nothing is opened, the
// contradiction is on record, and the caller is told to try again.
import { describe, expect, test } from "vitest";
import type { Role } from "../../src/domain/access.ts";
import type { Caller, Need } from "../../src/domain/admission.ts";
import type { AuditEvent } from "../../src/domain/audit.ts";
import { createGate } from "../../src/domain/gate.ts";
import type { Admission, Reader, SettingPage, Store } from "../../src/domain/ports.ts";
import type { Plan } from "../../src/domain/read-ahead.ts";

const at = new Date("2026-03-04T05:06:07.089Z");
const OWNER = { owner_type: "project" as const, owner_id: "01981c62-d3e0-7f45-9b07-c2d4e6f8091a" };
const TENANT = "01981c62-d3e0-7f45-9b07-c2d4e6f8091b";
const PATH = "connect/S3/a";
const caller: Caller = {
  credential: { kind: "api", hash: Buffer.alloc(32) },
  context: { request_id: "r", operation: "listSettings", ip: "192.0.2.1", user_agent: null },
};
const need: Need = {
  ask: { action: "list", path: PATH, breadth: "some" },
  place: { kind: "owner", owner: OWNER },
};
const plan: Plan = { select: { kind: "all" }, action: "decrypt", strict: false, limit: 1000 };
const SUBJECT = { id: "s", path: PATH, version: 1 };

function admissionOf(role: Role | null, revoked_at: Date | null): Admission {
  const none = { parent_id: null, made_with: null, scopes: [], max_uses: null, uses: 0, allowed_cidrs: [] };
  const times = { expires_at: null, last_used_at: null, revoked_at, created_at: at, created_by: null };
  const blank = { email: null, admin: false, organization_id: null, scopes: [], disabled_at: null };
  return {
    token: { id: "t", principal_id: "p", name: "t", ...none, ...times },
    principal: { id: "p", kind: "user", name: "p", ...blank, created_at: at, created_by: null },
    standing: { owner: OWNER, tenant_id: TENANT, role_at_owner: role, role_at_organization: null },
    owns_an_organization: false,
  };
}

/** Reads through a gate whose store says that it allowed and recorded version 1 of one setting. */
async function read(
  role: Role | null,
  found: { version: number; revoked_at?: Date },
  page: SettingPage | null = null,
) {
  const seen: (boolean | undefined)[] = [];
  const records: AuditEvent[] = [];
  const opened: string[] = [];
  const store = {
    reader: {} as Reader,
    readAhead: (ahead) =>
      Promise.resolve({
        admission: admissionOf(role, found.revoked_at ?? null),
        page,
        recorded: {
          ...ahead.event,
          principal_id: "p",
          token_id: "t",
          tenant_id: TENANT,
          settings: [SUBJECT],
        },
      }),
    record: async (event) => void records.push(event),
    countRefusal: async (event) => void records.push(event),
    noteTokenUse: () => undefined,
  } satisfies Partial<Store> as Partial<Store> as Store;
  let made = 0;
  const newId = (): string => `id-${made++}`;
  const gate = createGate({ store, clock: { now: () => at }, newId, refusals: { max: 100, count: () => 0 } });
  const answer = await gate
    .read(
      caller,
      need,
      async (_grant, reader) => {
        seen.push(reader.isReadAhead);
        return {
          found: null,
          action: "decrypt" as const,
          subjects: [{ ...SUBJECT, version: found.version }],
        };
      },
      async () => {
        opened.push(PATH);
        return { value: "opened" };
      },
      plan,
    )
    .then(
      ({ value }) => value,
      (error: { code: string }) => error.code,
    );
  return { answer, opened, records, seen };
}

const contradiction = { outcome: "failed", reason: "contradiction", follows: "id-0", action: "decrypt" };

describe("a read ahead", () => {
  test("that the gate agrees with is answered, and not put on record again", async () => {
    expect(await read("write", { version: 1 })).toMatchObject({
      answer: "opened",
      opened: [PATH],
      records: [],
    });
  });

  test("says so to whoever asks for its rows, where they are there", async () => {
    const page: SettingPage = { rows: [], more: false, exact: false };
    expect((await read("write", { version: 1 }, page)).seen).toEqual([true]);
    expect((await read("write", { version: 1 }, null)).seen).toEqual([undefined]);
  });

  test.each([
    ["of one whose role does not allow it", null, { version: 1 }],
    ["of a token that is revoked", "write" as const, { version: 1, revoked_at: at }],
    ["of another version than is shown", "write" as const, { version: 2 }],
  ])("%s opens nothing, is recorded as failed, and answers unavailable", async (_, role, found) => {
    const { answer, opened, records } = await read(role, found);
    expect([answer, opened]).toEqual(["unavailable", []]);
    expect(records.at(-1)).toMatchObject({ ...contradiction, settings: [SUBJECT], tenant_id: TENANT });
  });
});
