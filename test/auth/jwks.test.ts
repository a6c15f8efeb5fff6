// Key sets by address: when they are fetched, how long they are good, and that a bad server harms nobody but itself.
import { describe, expect, test } from "vitest";
import { type KeySetBounds, createKeySets } from "../../src/auth/jwks.ts";
import { OutboundError } from "../../src/auth/outbound-address.ts";
import { testClock } from "../sealing/fixture.ts";
import { edKey, setOf } from "./foreign.ts";

const key = edKey("first");
const ADDRESS = "https://issuer.example/keys";

/** Key sets over addresses that answer at once with what `sets` holds, and fail otherwise. */
function answering(bounds?: KeySetBounds) {
  const clock = testClock();
  const asked: string[] = [];
  const sets = new Map<string, unknown>([[ADDRESS, setOf(key)]]);
  const flaws: string[] = [];
  const keySets = createKeySets(
    {
      clock,
      fetchSet: async (address) => {
        asked.push(address);
        if (!sets.has(address)) throw new OutboundError("status");
        return sets.get(address);
      },
      deadline: () => new AbortController().signal,
      onFailure: (host, flaw) => flaws.push(`${host} ${flaw}`),
    },
    bounds,
  );
  const kidsAt = async (address = ADDRESS, kid: string | null = "first") =>
    (await keySets.keysAt(address, kid)).map((each) => each.kid);
  return { clock, asked, sets, flaws, kidsAt };
}

/** Key sets over addresses that never answer until they are told to. */
function hanging(fetchesMax = 64) {
  const clock = testClock();
  const flights = new Map<
    string,
    { readonly answer: (document: unknown) => void; readonly signal: AbortSignal }
  >();
  const asked: string[] = [];
  const keySets = createKeySets(
    {
      clock,
      fetchSet: (address, signal) => {
        asked.push(address);
        const flight = Promise.withResolvers<unknown>();
        signal.addEventListener("abort", () => flight.reject(new OutboundError("time")));
        flights.set(address, { answer: flight.resolve, signal });
        return flight.promise;
      },
      deadline: () => new AbortController().signal,
      onFailure: () => undefined,
    },
    { addressesMax: 1_000, fetchesMax },
  );
  return { keySets, flights, asked, clock };
}

describe("a key set", () => {
  test("is fetched once in ten minutes", async () => {
    const { clock, asked, kidsAt } = answering();
    for (let count = 0; count < 100; count++) expect(await kidsAt()).toEqual(["first"]);
    clock.pass(599);
    await kidsAt();
    expect(asked).toHaveLength(1);
    clock.pass(1);
    await kidsAt();
    expect(asked).toHaveLength(2);
  });

  test("is fetched once for all who ask at the same time", async () => {
    const { keySets, flights, asked } = hanging();
    const waiting = Array.from({ length: 50 }, () => keySets.keysAt(ADDRESS, "first"));
    flights.get(ADDRESS)?.answer(setOf(key));
    expect((await Promise.all(waiting)).every(([found]) => found?.kid === "first")).toBe(true);
    expect(asked).toEqual([ADDRESS]);
  });

  test("without a key that a token names is fetched anew at once, and then not for thirty seconds", async () => {
    const { clock, asked, sets, kidsAt } = answering();
    await kidsAt();
    sets.set(ADDRESS, setOf(key, edKey("second")));
    clock.pass(1);
    expect(await kidsAt(ADDRESS, "second")).toEqual(["first", "second"]);
    expect(asked).toHaveLength(2);
    for (let count = 0; count < 100; count++) await kidsAt(ADDRESS, `guessed-${count}`);
    clock.pass(29.9);
    await kidsAt(ADDRESS, "third");
    expect(asked).toHaveLength(2);
    clock.pass(0.1);
    await kidsAt(ADDRESS, "third");
    expect(asked).toHaveLength(3);
  });

  test("that is being fetched anew is waited for by all who name the new key, and by no others", async () => {
    const { keySets, flights } = hanging();
    const first = keySets.keysAt(ADDRESS, "first");
    flights.get(ADDRESS)?.answer(setOf(key));
    await first;
    const waiting = [keySets.keysAt(ADDRESS, "second"), keySets.keysAt(ADDRESS, "second")];
    expect(await keySets.keysAt(ADDRESS, "first")).toHaveLength(1);
    flights.get(ADDRESS)?.answer(setOf(key, edKey("second")));
    expect((await Promise.all(waiting)).map(({ length }) => length)).toEqual([2, 2]);
  });

  test("without a kid in the token is not fetched anew for it", async () => {
    const { asked, kidsAt } = answering();
    for (let count = 0; count < 5; count++) expect(await kidsAt(ADDRESS, null)).toEqual(["first"]);
    expect(asked).toHaveLength(1);
  });

  test("whose address fails later is good for an hour from when it was had, and tried every ten seconds", async () => {
    const { clock, asked, sets, kidsAt } = answering();
    await kidsAt();
    sets.clear();
    clock.pass(600);
    for (let count = 0; count < 20; count++) expect(await kidsAt()).toEqual(["first"]);
    expect(asked).toHaveLength(2);
    clock.pass(9.9);
    await kidsAt();
    expect(asked).toHaveLength(2);
    clock.pass(0.1);
    await kidsAt();
    expect(asked).toHaveLength(3);
    clock.pass(3_600 - 610 - 1);
    expect(await kidsAt()).toEqual(["first"]);
    clock.pass(1);
    expect(await kidsAt()).toEqual([]);
    sets.set(ADDRESS, setOf(key));
    clock.pass(10);
    expect(await kidsAt()).toEqual(["first"]);
  });

  test("that was never had is tried every ten seconds, whatever kids are named", async () => {
    const { clock, asked, sets, flaws, kidsAt } = answering();
    sets.clear();
    for (let count = 0; count < 20; count++) expect(await kidsAt(ADDRESS, `kid-${count}`)).toEqual([]);
    expect(asked).toHaveLength(1);
    expect(flaws).toEqual(["issuer.example status"]);
    clock.pass(10);
    sets.set(ADDRESS, setOf(key));
    expect(await kidsAt()).toEqual(["first"]);
  });

  test("from which a key was withdrawn has it no longer, be it the last", async () => {
    const { clock, sets, kidsAt } = answering();
    await kidsAt();
    sets.set(ADDRESS, { keys: [] });
    clock.pass(600);
    expect(await kidsAt()).toEqual([]);
  });

  test.each([null, [], {}, { keys: {} }, { keys: "x" }, "x", 1])(
    "is not %j: that is a failure",
    async (document) => {
      const { clock, sets, flaws, kidsAt } = answering();
      await kidsAt();
      sets.set(ADDRESS, document);
      clock.pass(600);
      expect(await kidsAt()).toEqual(["first"]);
      expect(flaws).toEqual(["issuer.example content"]);
    },
  );

  test("is not good for longer when the clock is set back", async () => {
    const { clock, asked, kidsAt } = answering();
    await kidsAt();
    clock.pass(-3_600);
    await kidsAt();
    expect(asked).toHaveLength(2);
  });

  test("holds no more than 32 keys, and of a huge one the rest is not even looked at", async () => {
    const { sets, kidsAt } = answering();
    const many = Array.from({ length: 40 }, (_, count) => edKey(`k${count}`));
    sets.set(ADDRESS, setOf(...many));
    expect(await kidsAt(ADDRESS, "k0")).toHaveLength(32);
    const { sets: others, kidsAt: othersAt } = answering();
    others.set(ADDRESS, { keys: [...Array.from({ length: 100 }, () => ({})), ...setOf(key).keys] });
    expect(await othersAt()).toEqual([]);
  });

  test("is forgotten when too many others were asked for since, and only then", async () => {
    const { asked, sets, kidsAt } = answering({ addressesMax: 3, fetchesMax: 64 });
    const addresses = ["a", "b", "c", "d"].map((name) => `https://${name}.example/`);
    for (const address of addresses) sets.set(address, setOf(key));
    const [a, b, c, d] = addresses as [string, string, string, string];
    for (const address of [a, b, c, a, d, a, c, d]) await kidsAt(address);
    expect(asked).toEqual([a, b, c, d]);
    await kidsAt(b);
    expect(asked).toEqual([a, b, c, d, b]);
  });
});

describe("a server that hangs", () => {
  test("is waited for by its own alone", async () => {
    const { keySets, flights } = hanging();
    const stuck = keySets.keysAt("https://stuck.example/", "first");
    const good = keySets.keysAt(ADDRESS, "first");
    flights.get(ADDRESS)?.answer(setOf(key));
    expect(await good).toHaveLength(1);
    flights.get("https://stuck.example/")?.answer(setOf());
    expect(await stuck).toEqual([]);
  });

  test("gives up its place to the next that asks: many of them stop nobody", async () => {
    const { keySets, flights, asked } = hanging(4);
    const stuck = [1, 2, 3, 4].map((count) => keySets.keysAt(`https://stuck${count}.example/`, "first"));
    const good = keySets.keysAt(ADDRESS, "first");
    expect(asked).toHaveLength(5);
    expect(flights.get("https://stuck1.example/")?.signal.aborted).toBe(true);
    expect(flights.get("https://stuck2.example/")?.signal.aborted).toBe(false);
    expect(await stuck[0]).toEqual([]);
    flights.get(ADDRESS)?.answer(setOf(key));
    expect(await good).toHaveLength(1);
    // And what was ended is not begun again at once.
    await keySets.keysAt("https://stuck1.example/", "first");
    expect(asked).toHaveLength(5);
  });

  test("never has more than one fetch under way, and all of them never more than there are places", async () => {
    const { keySets, flights, asked } = hanging(8);
    for (let count = 0; count < 200; count++)
      void keySets.keysAt(`https://stuck${count % 50}.example/`, `k${count}`);
    const open = [...flights.values()].filter(({ signal }) => !signal.aborted);
    expect(open).toHaveLength(8);
    await new Promise(setImmediate);
    // 50 addresses, each begun once; what was ended is held off by its failure.
    expect(new Set(asked).size).toBe(50);
  });
});
