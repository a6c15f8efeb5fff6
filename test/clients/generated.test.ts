// openapi.yaml serves generators: a client made from it by one that is not ours compiles under strict rules, and
// creates, reads and resolves at the real broker.
import { execFile } from "node:child_process";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { generateSource } from "oazapfts";
import { afterAll, beforeAll, expect, it } from "vitest";
import { S3, type TestBroker, type World, furnish, startBroker } from "../harness/broker.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
// What somebody would write against the generated client, with no cast.
const PROGRAM = `
import * as api from "./api.js";
const { COFFER_URL = "", COFFER_TOKEN = "", PROJECT = "", SECRET = "" } = process.env;
api.defaults.baseUrl = COFFER_URL;
api.defaults.headers = { authorization: \`Bearer \${COFFER_TOKEN}\` };

const made = await api.putSetting("project", PROJECT, "connect/S3/generated", {
  value: { access_key_id: "AKIDEXAMPLE", secret_access_key: SECRET },
  labels: { made: "by a generator" },
});
if (made.status !== 201) throw new Error(\`put: \${made.status}\`);
const version: number = made.data.version;

const listed = await api.listSettings("project", PROJECT, { path: "connect/S3", decrypt: true });
if (listed.status !== 200) throw new Error(\`list: \${listed.status}\`);
const [setting] = listed.data.settings;
if (setting === undefined || setting.value === null || typeof setting.value === "string" || !("access_key_id" in setting.value))
  throw new Error("no S3 value");
const secret: string = setting.value.secret_access_key;

const ref = setting.ref;
const resolved = await api.resolveReferences({ refs: [\`\${ref}#secret_access_key\`, \`\${ref}-none\`] });
if (resolved.status !== 200) throw new Error(\`resolve: \${resolved.status}\`);

const refused = await api.getSettingValue("project", PROJECT, "connect/S3/none");
const code = refused.status === 404 ? refused.data.code : "none";
const outcomes = resolved.data.results.map(({ status, value }) => ({ status, value }));
console.log(JSON.stringify({ version, secret, outcomes, code }));
`;
const TSCONFIG = {
  compilerOptions: {
    target: "es2022",
    module: "nodenext",
    strict: true,
    exactOptionalPropertyTypes: false,
    noUncheckedIndexedAccess: true,
    skipLibCheck: false,
    lib: ["es2022", "dom", "dom.iterable"],
    types: ["node"],
    outDir: "out",
    rootDir: ".",
  },
  files: ["program.ts"],
};

let broker: TestBroker;
let world: World;
let folder: string;

beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());
beforeAll(async () => {
  world = await furnish(broker);
  folder = await mkdtemp(join(tmpdir(), "coffer-generated-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** The broker is in this very process: nothing may block it. */
const node = (args: readonly string[], env: Record<string, string> = {}) =>
  promisify(execFile)(process.execPath, args, { cwd: folder, env: { ...process.env, ...env } });

it("a client generated from openapi.yaml by an independent generator compiles and does create, read and resolve", async () => {
  await symlink(join(root, "node_modules"), join(folder, "node_modules"), "dir");
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await writeFile(join(folder, "api.ts"), await generateSource(join(root, "openapi.yaml")));
  await writeFile(join(folder, "program.ts"), PROGRAM);
  await writeFile(join(folder, "tsconfig.json"), JSON.stringify(TSCONFIG));

  const compiled = await node([join(root, "node_modules/typescript/bin/tsc"), "--project", folder]).catch(
    (error: { readonly stdout: string }) => error,
  );
  expect(compiled.stdout).toBe("");

  const env = {
    COFFER_URL: broker.url,
    COFFER_TOKEN: world.writer.api.token,
    PROJECT: world.project.id,
    SECRET: S3.secret_access_key,
  };
  const { stdout, stderr } = await node(["out/program.js"], env);
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual({
    version: 1,
    secret: S3.secret_access_key,
    outcomes: [{ status: 200, value: S3.secret_access_key }, { status: 404 }],
    code: "not_found",
  });
});
