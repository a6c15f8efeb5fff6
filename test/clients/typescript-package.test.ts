// The TypeScript client as it would be published: built, linted by publint, used by strict consumers, run, and shaken.
import { execFile } from "node:child_process";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { publint } from "publint";
import { rolldown } from "rolldown";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const source = join(root, "clients/typescript");
const tsc = join(root, "node_modules/typescript/bin/tsc");
const CONSUMER = `
import { type Client, CofferError, type S3Value, Secret, type Setting, createClient } from "@coffer/client";

export const client: Client = createClient({ url: "http://127.0.0.1:7420", token: new Secret("cfr_x") });
export async function keys(project: string): Promise<Secret<S3Value>[]> {
  const settings: Setting<S3Value>[] = await client.getSettings("project", project, "connect/S3", { decrypt: true });
  return settings.flatMap(({ value }) => (value === null ? [] : [value]));
}
export async function first(project: string): Promise<string> {
  const outcomes = await client.resolve([\`project/\${project}/secret/Custom/a\`]);
  const [outcome] = outcomes;
  if (outcome?.value !== undefined) return String(outcome.value.reveal());
  throw new CofferError({ status: outcome?.status ?? 0, code: outcome?.code ?? "not_found", detail: "None." });
}
export async function text(project: string): Promise<string> {
  const { value } = await client.getValue("project", project, "secret/Custom/a");
  // @ts-expect-error A secret is no string.
  const wrong: string = value;
  void wrong;
  return value.reveal();
}
// @ts-expect-error An S3 value has an access_key_id.
export const incomplete = (project: string) => client.put("project", project, "connect/S3/a", { value: { region: "x" } });
console.log(String(new Secret("shown")));
`;
const STRICT = {
  target: "es2022",
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  verbatimModuleSyntax: true,
  skipLibCheck: false,
  lib: ["es2022", "dom", "dom.iterable"],
  types: [],
};

let folder: string;
let installed: string;

const node = (args: readonly string[], cwd: string) =>
  promisify(execFile)(process.execPath, args, { cwd }).catch(
    (error: { stdout: string; stderr: string }) => error,
  );

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "coffer-consumer-"));
  installed = join(folder, "node_modules/@coffer/client");
  await mkdir(installed, { recursive: true });
  // A build of its own: another may be going on in the package's folder.
  const built = await node([tsc, "--project", source, "--outDir", join(installed, "dist")], root);
  if (built.stdout !== "") throw new Error(built.stdout);
  for (const file of ["package.json", "README.md", "LICENSE"])
    await cp(join(source, file), join(installed, file));
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await writeFile(join(folder, "consumer.ts"), CONSUMER);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe("the package", () => {
  it("has nothing that publint finds fault with", async () => {
    const { messages } = await publint({ pkgDir: installed, strict: true, level: "suggestion", pack: false });
    expect(messages).toEqual([]);
  });

  it("is ours to publish, depends on nothing, and says that it may be shaken", async () => {
    const manifest = JSON.parse(await readFile(join(source, "package.json"), "utf8"));
    expect(manifest).toMatchObject({
      name: "@coffer/client",
      private: false,
      license: "Apache-2.0",
      sideEffects: false,
    });
    for (const kind of ["dependencies", "peerDependencies", "optionalDependencies"])
      expect(manifest).not.toHaveProperty(kind);
    expect(await readFile(join(source, "LICENSE"), "utf8")).toBe(
      await readFile(join(root, "LICENSE"), "utf8"),
    );
  });
});

describe("a consumer", () => {
  it.each([
    { module: "nodenext", moduleResolution: "nodenext" },
    { module: "esnext", moduleResolution: "bundler" },
  ])("compiles under strict rules, declarations included: $moduleResolution", async (resolution) => {
    const config = join(folder, `tsconfig.${resolution.moduleResolution}.json`);
    const compilerOptions = { ...STRICT, ...resolution, outDir: "out" };
    await writeFile(config, JSON.stringify({ compilerOptions, files: ["consumer.ts"] }));
    const compiled = await node([tsc, "--project", config], folder);
    expect(compiled.stdout).toBe("");
    const { stdout, stderr } = await node([join(folder, "out/consumer.js")], folder);
    expect([stdout, stderr]).toEqual(["[redacted]\n", ""]);
  });

  const bundle = async (text: string, moduleSideEffects?: true) => {
    const input = join(folder, "entry.js");
    await writeFile(input, text);
    const warnings: string[] = [];
    const built = await rolldown({
      input,
      platform: "browser",
      treeshake: moduleSideEffects === undefined ? {} : { moduleSideEffects },
      onLog: (_level, log) => warnings.push(log.message),
    });
    const { output } = await built.generate({ format: "esm" });
    await built.close();
    return { warnings, code: output.map((each) => ("code" in each ? each.code : "")).join("") };
  };

  it("bundles it for a browser with nothing left to import, and no warning", async () => {
    const { code, warnings } = await bundle(
      `import { createClient } from "@coffer/client"; globalThis.made = createClient;`,
    );
    expect(warnings).toEqual([]);
    expect(code).toContain("/settings/resolve");
    expect(code).not.toMatch(/^\s*import\b|\brequire\(|\bimport\(/m);
  });

  it("takes only what it uses: nothing runs by importing", async () => {
    expect((await bundle(`import "@coffer/client"; export const own = 1;`)).code).not.toMatch(
      /class|function|settings/,
    );
    const { code } = await bundle(`import { Secret } from "@coffer/client"; globalThis.made = Secret;`);
    expect(code).toContain("[redacted]");
    expect(code).not.toMatch(/settings|fetch|urn:ietf|setTimeout/);
    // Nor would a bundler that takes no package's word for it find anything to keep.
    const { code: wary } = await bundle(`import "@coffer/client"; export const own = 1;`, true);
    expect(wary).not.toMatch(/class|function|settings/);
  });
});
