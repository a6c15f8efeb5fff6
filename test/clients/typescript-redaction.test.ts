// No print shows a value or a token: whatever somebody does to look at what the TypeScript client gave, or threw.
import { Console } from "node:console";
import { Writable } from "node:stream";
import { format, inspect } from "node:util";
import { serialize } from "node:v8";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CofferError, Secret, createClient } from "../../clients/typescript/src/index.ts";

const MARK = "x7Qz9MARKk2";
/** Hostile text, with a mark in it that no print would come upon by chance or escape. */
const hostile = fc
  .tuple(fc.string({ unit: "binary" }), fc.string())
  .map(([before, after]) => before + MARK + after);
const value = fc.oneof(
  hostile,
  fc.record({ access_key_id: hostile, secret_access_key: hostile, force_path_style: fc.boolean() }),
  fc.record({ registry: hostile, username: hostile, password: hostile }),
);

function logged(print: (console: Console) => void): string {
  let text = "";
  const sink = new Writable({ write: (chunk, _encoding, done) => ((text += String(chunk)), done()) });
  print(new Console({ stdout: sink, stderr: sink }));
  return text;
}

/** All the ways to look at something that come to mind. */
function prints(thing: unknown): string[] {
  const hidden = { depth: Number.POSITIVE_INFINITY, showHidden: true, getters: true };
  return [
    inspect(thing, hidden),
    inspect(thing, { ...hidden, customInspect: false, showProxy: true }),
    format("%s %o %O %j %d", thing, thing, thing, thing, thing),
    logged((console) => console.log(thing)),
    logged((console) => console.dir(thing, hidden)),
    logged((console) => console.table(thing)),
    logged((console) => console.error("failed:", { thing })),
    JSON.stringify(thing),
    JSON.stringify({ thing, list: [thing] }, null, 2),
    `as text: ${thing as string}`,
    String(thing),
    Object.prototype.toString.call(thing),
    ...(typeof thing === "object" && thing !== null
      ? [inspect(Object.getOwnPropertyDescriptors(thing), hidden), inspect(Object.entries(thing), hidden)]
      : []),
  ];
}

/** A broker that answers whatever is asked with this. */
const answering =
  (status: number, body: string): typeof fetch =>
  async () =>
    new Response(body, { status });
const address = ["project", "p", "secret/Custom/x"] as const;

describe("what the client gives", () => {
  it("would be seen by these prints, were it not a secret", () => {
    const seen = prints({ value: MARK }).filter((print) => print.includes(MARK));
    expect(seen.length).toBeGreaterThan(9);
  });

  it("shows no value in any print", async () => {
    await fc.assert(
      fc.asyncProperty(value, async (secret) => {
        const setting = { path: "secret/Custom/x", decrypted: true, value: secret };
        const page = { settings: [setting], next_cursor: null };
        const opened = { path: "p", type: "custom", version: 1, value: secret };
        const results = { results: [{ ref: "r", status: 200, value: secret, version: 1, setting_id: "i" }] };
        const client = (body: unknown) =>
          createClient({ url: "http://broker", token: MARK, fetch: answering(200, JSON.stringify(body)) });
        const settings = await client(page).getSettings("project", "p", undefined, { decrypt: true });
        const one = await client(opened).getValue(...address);
        const resolved = await client(results).resolve(["r"]);
        const { value: watched } = await client(opened).watch("project/p/secret/Custom/x").next();
        for (const thing of [settings, one, resolved, watched, client(page)])
          for (const print of [...prints(thing), ...(Array.isArray(thing) ? thing.flatMap(prints) : [])])
            expect(print).not.toContain(MARK);
        expect(settings[0]?.value?.reveal()).toEqual(secret);
        expect(one.value.reveal()).toEqual(secret);
      }),
      { numRuns: 60 },
    );
  });

  it("shows none when a secret itself is joined, copied or cloned", () => {
    const secret = new Secret(MARK);
    for (const print of prints(secret)) expect(print).not.toContain(MARK);
    for (const made of [`joined ${secret}`, [secret].join(), JSON.stringify(secret), String(Number(secret))])
      expect(made).not.toContain(MARK);
    for (const copy of [structuredClone(secret), Object.assign({}, secret)])
      expect(inspect(copy, { showHidden: true })).not.toContain(MARK);
    expect(serialize(secret).toString("latin1")).not.toContain(MARK);
    expect(String(secret)).toBe("[redacted]");
    expect(inspect(secret)).toContain("redacted");
  });
});

describe("what the client throws", () => {
  const thrown = async (call: () => Promise<unknown>): Promise<unknown> => {
    try {
      await call();
    } catch (error) {
      return error;
    }
    return expect.unreachable("it succeeded");
  };

  it("quotes no answer, whatever is in it", async () => {
    const texts = [
      MARK,
      `{"value": "${MARK}"`,
      JSON.stringify({ value: MARK }),
      JSON.stringify([MARK]),
      `<b>${MARK}</b>`,
    ];
    for (const text of texts)
      for (const status of [200, 302, 400, 401, 404, 429, 500, 502, 503]) {
        const options = {
          url: "http://broker",
          token: "t",
          retry: false,
          fetch: answering(status, text),
        } as const;
        const error = await thrown(() => createClient(options).getSettings(...address));
        // An answer of the wrong shape fails somehow.
        for (const print of [...prints(error), (error as Error).stack ?? ""])
          expect(print).not.toContain(MARK);
        if (text !== texts[2] && text !== texts[3]) expect(error).toBeInstanceOf(CofferError);
      }
  });

  it("quotes no token, not even one that no header can carry", async () => {
    for (const token of [`${MARK}\n`, `${MARK} ${MARK}`, `é${MARK}`, `${MARK}\u0000`]) {
      const error = await thrown(() =>
        createClient({ url: "http://127.0.0.1:9", token }).getSettings(...address),
      );
      expect(error).toMatchObject({ code: "no_token" });
      for (const print of [...prints(error), (error as Error).stack ?? ""]) expect(print).not.toContain(MARK);
    }
  });

  it("quotes neither the token nor the body of a request that found nobody", async () => {
    const closed = createClient({ url: "http://127.0.0.1:9", token: MARK, retry: false });
    const error = await thrown(() => closed.put(...address, { value: MARK }));
    expect(error).toMatchObject({ status: 0, code: "unreachable" });
    for (const print of [...prints(error), (error as Error).stack ?? ""]) expect(print).not.toContain(MARK);
  });
});
