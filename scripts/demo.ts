// `npm run demo`: the main job on a throw-away broker, told as requests and answers. It starts src/cli.ts as anybody
// would, on a free port with a home of its own, talks to it by HTTP alone, and leaves nothing behind. All the secrets
// in it are made up; of answers only the fields that matter are shown.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

type Json = { readonly [name: string]: unknown };
type Answer = { readonly status: number; readonly body: Json };
type Who = { readonly name: string; readonly token: string };

const cli = join(import.meta.dirname, "../src/cli.ts");
const startTimeoutMs = 60_000;
const stopTimeoutMs = 30_000;

const started = performance.now();
const styled = process.stdout.isTTY && !process.env["NO_COLOR"];
const style =
  (code: number) =>
  (text: string): string =>
    styled ? `\u001b[${code}m${text}\u001b[0m` : text;
const [bold, dim, green, red, cyan] = [style(1), style(2), style(32), style(31), style(36)];
const seconds = (): string => `${((performance.now() - started) / 1_000).toFixed(1)} s`;

/** Where paths and bodies begin, and how long their lines get. */
const indent = " ".repeat(17);
const widthMax = 96;

let address = "";
let steps = 0;
let isEnding = false;
/** Ids are shown by what they are of, like a shell's variables. */
const names = new Map<string, string>();

const home = await mkdtemp(join(tmpdir(), "coffer-demo-"));
const broker = start();
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void end(130));
try {
  await ready(broker);
  await show();
  await end(0);
} catch (error) {
  if (!isEnding)
    console.error(red(`\nThe demo failed: ${error instanceof Error ? error.message : String(error)}`));
  await end(1);
}

/** The main job. */
async function show(): Promise<void> {
  const admin: Who = { name: "admin", token: await readFile(join(home, "admin.token"), "utf8") };
  console.log(`${bold("Coffer")}: a throw-away broker is ready at ${address} after ${seconds()}.`);

  step("The admin makes an organization, and a project in it.");
  const organization = await make(admin, "ORGANIZATION", "/organizations", { name: "acme" });
  const project = await make(admin, "PROJECT", `/organizations/${organization}/projects`, { name: "vision" });
  const at = (path: string): string => `/settings?owner_type=project&owner_id=${project}&path=${path}`;

  step("As the project's owner, the admin writes one secret of each type. No answer repeats a value.");
  const stored = ["path", "type", "version"];
  await call(admin, "PUT", at("secret/Custom/wandb-api-key"), stored, { value: "made-up-api-key" });
  await call(admin, "PUT", at("connect/S3/training-data"), stored, {
    value: { access_key_id: "MADE-UP-ID", secret_access_key: "made-up-secret-key", bucket: "training-data" },
  });
  await call(admin, "PUT", at("connect/ContainerRegistry/images"), stored, {
    value: { registry: "registry.example.com", username: "robot", password: "made-up-password" },
  });

  step(
    "A worker gets an account, a role, and a token that opens what lies under connect/S3 and nothing else.",
  );
  const worker = await account(
    admin,
    organization,
    project,
    "trainer",
    "write",
    `decrypt:project/${project}/connect/S3`,
  );

  step("The main job: the worker reads its secrets.");
  const read = ["path", "type", "version", "decrypted", "value", "withheld"];
  const opened = await call(worker, "GET", `${at("connect/S3")}&decrypt=true`, read);
  expect(opened, 200, '"secret_access_key": "made-up-secret-key"');

  step("It gets no further than its token's scope, although its role would let it.");
  const denied = await call(worker, "GET", `${at("secret/Custom")}&decrypt=true`, [
    "code",
    "reason",
    "detail",
  ]);
  expect(denied, 403, "forbidden");

  step("A reader makes the same call: it sees that the secret exists, and never the value.");
  const reader = await account(admin, organization, project, "dashboard", "read");
  const withheld = await call(reader, "GET", `${at("connect/S3")}&decrypt=true`, read);
  expect(withheld, 200, '"withheld": "insufficient_role"');
  expect(withheld, 200, '"value": null');

  step("All of it is on record, each line written before its answer was given.");
  const query = `/audit?owner_type=project&owner_id=${project}&order=asc`;
  const audit = await call(admin, "GET", query, []);
  printAudit(audit);
}

/** A POST that makes something; answers its id, which is shown by `name` from then on. */
async function make(who: Who, name: string, path: string, body: Json): Promise<string> {
  const answer = await call(who, "POST", path, ["id", "name"], body, name);
  return String(answer.body["id"]);
}

/** A service account with a role in the project, and a token. */
async function account(
  admin: Who,
  organization: string,
  project: string,
  name: string,
  role: "read" | "write",
  scope?: string,
): Promise<Who> {
  const variable = name.toUpperCase();
  const id = await make(admin, variable, `/organizations/${organization}/service-accounts`, { name });
  await call(admin, "PUT", `/projects/${project}/members/${id}`, ["name", "role"], { role });
  const wanted = {
    name: "demo",
    principal_id: id,
    expires_in_days: 1,
    ...(scope === undefined ? {} : { scopes: [scope] }),
  };
  const made = await call(admin, "POST", "/tokens", ["token", "scopes"], wanted);
  return { name, token: String(made.body["token"]) };
}

/** One request, shown with its answer; `name` is what the new id is called from then on. */
async function call(
  who: Who,
  method: string,
  path: string,
  fields: readonly string[],
  body?: Json,
  name?: string,
): Promise<Answer> {
  const sent = body === undefined ? [] : linesOf(body);
  const fits = sent.length === 1 && readable(path).length + (sent[0]?.length ?? 0) < widthMax;
  const [first = "", ...rest] = fits ? sent : ["", ...sent];
  console.log(
    `  ${cyan(who.name.padEnd(9))} ${bold(method.padEnd(4))} ${readable(path)} ${dim(first)}`.trimEnd(),
  );
  for (const line of rest) console.log(`${indent}${dim(line)}`);
  const headers: Record<string, string> = { authorization: `Bearer ${who.token}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const init = body === undefined ? { method, headers } : { method, headers, body: JSON.stringify(body) };
  const response = await fetch(address + path, init);
  const answer: Answer = { status: response.status, body: (await response.json()) as Json };
  const colour = response.ok ? green : red;
  const rows = Array.isArray(answer.body["settings"]) ? (answer.body["settings"] as Json[]) : [answer.body];
  for (const row of fields.length === 0 ? [] : rows) {
    const [top = "", ...more] = linesOf(cut(row, fields));
    const called = name === undefined ? "" : cyan(` = $${name}`);
    console.log(`  ${" ".repeat(9)} ${colour(String(answer.status).padEnd(4))} ${top}${called}`);
    for (const line of more) console.log(`${indent}${line}`);
  }
  if (name !== undefined) names.set(String(answer.body["id"]), `$${name}`);
  if (!response.ok && response.status !== 403)
    throw new Error(`${method} ${path} was answered ${response.status}`);
  return answer;
}

function cut(row: Json, fields: readonly string[]): Json {
  const shown = fields.filter((field) => row[field] !== undefined).map((field) => [field, row[field]]);
  return Object.fromEntries(shown) as Json;
}

/** JSON as people write it. */
function json(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(json).join(", ")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  return `{${fieldsOf(value).join(", ")}}`;
}

function fieldsOf(value: object): string[] {
  return Object.entries(value).map(([name, each]) => `"${name}": ${json(each)}`);
}

/** The same on one line, or on several when it is long. */
function linesOf(value: Json): string[] {
  const lines: string[] = [];
  for (const field of fieldsOf(value).map(readable)) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + field.length < widthMax) lines.push(`${lines.pop()}, ${field}`);
    else lines.push(field);
  }
  return lines.map((line, at) => `${at === 0 ? "{" : " "}${line}${at === lines.length - 1 ? "}" : ","}`);
}

/** Ids by their names; a token by its first characters. */
function readable(text: string): string {
  let shown = text.replaceAll(/cfr_[0-9A-Za-z]+/g, (token) => `${token.slice(0, 8)}…`);
  for (const [id, name] of names) shown = shown.replaceAll(id, name);
  return shown;
}

function printAudit({ body }: Answer): void {
  type Event = Readonly<Record<"at" | "principal_id" | "action" | "outcome", string>> & {
    readonly settings: readonly { readonly path: string }[];
    readonly path: string | null;
    readonly details: { readonly change?: string };
    readonly reason: string | null;
  };
  for (const event of body["events"] as Event[]) {
    const { at, principal_id, action, outcome, settings, path, details, reason } = event;
    const about = settings.map((each) => each.path).join(", ") || (path ?? details.change ?? "");
    const who = (names.get(principal_id) ?? "$ADMIN").slice(1).toLowerCase();
    const colour = outcome === "allowed" ? green : red;
    const why = reason === null ? "" : dim(`(${reason})`);
    const line = [
      dim(at.slice(11, 23)),
      who.padEnd(9),
      action.padEnd(7),
      colour(outcome.padEnd(7)),
      about,
      why,
    ];
    console.log(`  ${line.join("  ").trimEnd()}`);
  }
}

function step(text: string): void {
  steps += 1;
  console.log(`\n${bold(`${steps}. ${text}`)}`);
}

/** A demo that shows something else than it says is a failed demo. */
function expect({ status, body }: Answer, wanted: number, text: string): void {
  if (status !== wanted || !json(body).includes(text))
    throw new Error(`expected ${wanted} with ${text}, and was answered ${status}`);
}

/** The broker as a child, whose environment holds nothing of the caller's own Coffer. */
function start(): ChildProcess {
  const own = Object.entries(process.env).filter(
    ([name]) => !name.startsWith("COFFER_") && name !== "DATABASE_URL",
  );
  const env = { ...Object.fromEntries(own), COFFER_HOME: home, COFFER_PORT: "0" };
  return spawn(process.execPath, [cli, "serve"], { env, stdio: ["ignore", "pipe", "inherit"] });
}

/** Resolves once the broker's log says where it listens. */
function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the broker was not ready in time")), startTimeoutMs);
    child.once("exit", (code) => reject(new Error(`the broker ended by itself (${code})`)));
    if (child.stdout === null) return;
    createInterface(child.stdout).on("line", (line) => {
      const said = /"address":"([^"]+)"/.exec(line)?.[1];
      if (said === undefined || address !== "") return;
      address = said;
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Stops the broker, removes its home, and ends this process. */
async function end(code: number): Promise<void> {
  if (isEnding) return;
  isEnding = true;
  if (broker.exitCode === null && broker.signalCode === null) {
    const ended = new Promise((resolve) => broker.once("exit", resolve));
    broker.kill("SIGTERM");
    const impatience = setTimeout(() => broker.kill("SIGKILL"), stopTimeoutMs);
    await ended;
    clearTimeout(impatience);
  }
  await rm(home, { recursive: true, force: true, maxRetries: 10 });
  if (code === 0)
    console.log(`\nThe broker is stopped and its files are removed. It took ${seconds()} in all.`);
  process.exit(code);
}
