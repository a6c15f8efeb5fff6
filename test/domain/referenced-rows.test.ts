// References by themselves: a request that names many has its turn, so that the values of a few such requests are looked
// up at once and not those of all.
import { expect, test } from "vitest";
import { parseSettingPath } from "../../src/domain/address.ts";
import { unavailable } from "../../src/domain/errors.ts";
import type { Grant } from "../../src/domain/admission.ts";
import type { Reader } from "../../src/domain/ports.ts";
import { type Item, createLookUp } from "../../src/domain/referenced-rows.ts";
import type { Vault } from "../../src/domain/sealing-ports.ts";

/** A database that answers when it is told to: there is no such setting, whatever is asked. */
function world() {
  const asked = new Map<string, number>();
  let answerAll = (): void => undefined;
  let failAll = (): void => undefined;
  const answers = new Promise<null>((settle, fail) => {
    answerAll = () => settle(null);
    failAll = () => fail(unavailable("The database is away."));
  });
  const reader = {
    setting: async ({ tenant_id }: { readonly tenant_id: string }) => {
      asked.set(tenant_id, (asked.get(tenant_id) ?? 0) + 1);
      return answers;
    },
  } as unknown as Reader;
  const lookUp = createLookUp();
  const ask = (tenant_id: string, many: number, values = many, isReadAhead = false) => {
    const key = { owner_type: "organization", owner_id: tenant_id, tenant_id };
    const grant = { key, at: new Date(), decide: () => ({ verdict: "allow" }) } as unknown as Grant;
    const items = Array.from({ length: many }, (_, at): Item => {
      const path = parseSettingPath(`secret/Custom/n${at % values}`);
      const owner = { owner_type: "organization" as const, owner_id: tenant_id };
      return { at, reference: { owner, path, version: null, field: null } };
    });
    return lookUp(items, grant, { ...reader, isReadAhead }, {} as Vault);
  };
  return { asked, ask, answerAll, failAll };
}
const turn = () => new Promise(setImmediate);

test("of many wide requests a tenant has three looked up at once, and leaves a place to another's", async () => {
  const { asked, ask, answerAll } = world();
  const greedy = Array.from({ length: 10 }, () => ask("greedy", 100));
  await turn();
  expect(asked.get("greedy")).toBe(3 * 32);
  const modest = [ask("modest", 33), ask("modest", 33)];
  await turn();
  expect(asked.get("modest")).toBe(32);
  answerAll();
  const looked = await Promise.all([...greedy, ...modest]);
  expect(looked.map(({ length }) => length)).toEqual([...Array.from({ length: 10 }, () => 100), 33, 33]);
  expect(Object.fromEntries(asked)).toEqual({ greedy: 1_000, modest: 66 });
});

test("a request that names few waits for none of them", async () => {
  const { asked, ask, answerAll } = world();
  const greedy = Array.from({ length: 10 }, () => ask("greedy", 100));
  const few = ask("greedy", 32);
  await turn();
  expect(asked.get("greedy")).toBe(3 * 32 + 32);
  answerAll();
  await Promise.all([...greedy, few]);
});

test("nor does one whose rows were read ahead", async () => {
  const { asked, ask, answerAll } = world();
  const greedy = Array.from({ length: 10 }, () => ask("greedy", 100));
  const ahead = ask("greedy", 100, 100, true);
  await turn();
  expect(asked.get("greedy")).toBe(3 * 32 + 100);
  answerAll();
  await Promise.all([...greedy, ahead]);
});

test("a value that many references name is no reason to wait", async () => {
  const { asked, ask, answerAll } = world();
  const greedy = Array.from({ length: 10 }, () => ask("greedy", 100));
  await turn();
  const before = asked.get("greedy") ?? 0;
  const one = ask("greedy", 100, 1);
  await turn();
  expect(asked.get("greedy")).toBe(before + 1);
  answerAll();
  await Promise.all([...greedy, one]);
});

test("no more than 100 of a tenant wait: the next is told at once, and another's is not", async () => {
  const { ask, answerAll } = world();
  const greedy = Array.from({ length: 103 }, () => ask("greedy", 33));
  await turn();
  await expect(ask("greedy", 33)).rejects.toMatchObject({ code: "unavailable" });
  const another = ask("modest", 33);
  answerAll();
  expect(await Promise.all([...greedy, another])).toHaveLength(104);
});

test("one that fails leaves its place to the next", async () => {
  const { asked, ask, failAll } = world();
  const all = Array.from({ length: 10 }, () => ask("greedy", 33));
  await turn();
  failAll();
  const outcomes = await Promise.allSettled(all);
  expect(outcomes.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => "rejected"));
  expect(asked.get("greedy")).toBe(10 * 32);
});
