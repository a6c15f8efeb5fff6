// Members that ask together: whoever asks is answered, whenever the ask comes; and who may only share waits for nobody.
import { expect, test } from "vitest";
import type { SettingPath } from "../../src/domain/address.ts";
import { Busy } from "../../src/domain/steps.ts";
import { createRounds } from "../../src/store/shared-rounds.ts";
import { openFixture, path } from "./fixture.ts";

test("an ask that comes while a round's answers are out is answered by the next round", async () => {
  const rounds = createRounds(1);
  const member = { asking: 0, isOver: false };
  const [asked, answer] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const slow = rounds.kind(async (asks: readonly number[]) => {
    asked.resolve();
    await answer.promise;
    return asks;
  });
  const other = rounds.kind(async (asks: readonly number[]) => asks);
  const first = slow(member, 1);
  await asked.promise;
  const second = other(member, 2);
  answer.resolve();
  expect(await Promise.all([first, second])).toEqual([1, 2]);
});

test("a lock is had before what is asked together with it, and that is asked at once", async () => {
  const rounds = createRounds(1);
  const member = { asking: 0, isOver: false };
  const order: string[] = [];
  const kindOf = (name: string, isLock: boolean) =>
    rounds.kind(
      async (asks: readonly null[]) => {
        order.push(`${name} begins`);
        await new Promise(setImmediate);
        order.push(`${name} ends`);
        return asks;
      },
      isLock ? "lock" : "any",
    );
  const all = [kindOf("lock", true), kindOf("a", false), kindOf("b", false)];
  await Promise.all(all.map((kind) => kind(member, null)));
  expect(order.slice(0, 4)).toEqual(["lock begins", "lock ends", "a begins", "b begins"]);
});

test("what may only share does not queue behind somebody at its path", async () => {
  const f = await openFixture();
  const { key } = await f.organization();
  const [at, elsewhere] = [path("secret/Custom/taken"), path("secret/Custom/free")];
  const [begun, end] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const first = f.store.transact(
    async () => {
      begun.resolve();
      await end.promise;
    },
    { place: { owner: key, path: at } },
  );
  await begun.promise;
  const only = (where: SettingPath) =>
    f.store.transact(async () => "shared", { place: { owner: key, path: where, only: "shared" } });
  await expect(only(at)).rejects.toBeInstanceOf(Busy);
  end.resolve();
  await first;
  expect(await only(elsewhere)).toBe("shared");
  expect(await only(at)).toBe("shared");
});
