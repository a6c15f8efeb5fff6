// Every package that package-lock.json names has a licence that we may use it under: at run time a permissive one; for
// development also the weak copyleft of tools that are not passed on. Read from the lock file, and where that is silent
// from what is installed; no network. Also that each package comes from a registry by https or is our own, and that
// its checksum is pinned.
import { readFile } from "node:fs/promises";

type Locked = {
  readonly version?: string;
  readonly license?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly link?: boolean;
  readonly integrity?: string;
  readonly resolved?: string;
};

const PERMISSIVE = new Set([
  "0BSD",
  "Apache-2.0",
  "BlueOak-1.0.0",
  "BSD-2-Clause",
  "BSD-3-Clause",
  "ISC",
  "MIT",
  "PostgreSQL",
  "Python-2.0",
  "Unlicense",
  "Zlib",
]);
/** Of tools: they are run, not passed on. */
const FOR_TOOLS = new Set([...PERMISSIVE, "MPL-2.0", "EPL-2.0"]);

/** Where the package says it in a file of its own alone, which somebody has read. */
const READ: Readonly<Record<string, string>> = { "seq-queue@0.0.5": "MIT" };

/** SPDX: any of an OR, all of an AND; a nested expression is read from its brackets outwards. */
function isAllowed(expression: string, allowed: ReadonlySet<string>): boolean {
  const plain = expression.replaceAll(/^\((.*)\)$/g, "$1").trim();
  if (/[()]/.test(plain)) return false;
  return plain
    .split(/\s+or\s+/i)
    .some((either) => either.split(/\s+and\s+/i).every((each) => allowed.has(each.trim())));
}

async function licenceOf(path: string, { license, version }: Locked): Promise<string> {
  if (license !== undefined) return license;
  const read = READ[`${path.split("node_modules/").at(-1) ?? ""}@${version}`];
  if (read !== undefined) return read;
  const text = await readFile(`${path}/package.json`, "utf8").catch(() => "{}");
  const { license: installed } = JSON.parse(text) as { license?: unknown };
  return typeof installed === "string" ? installed : "none that is told";
}

const { packages } = JSON.parse(await readFile("package-lock.json", "utf8")) as {
  packages: Readonly<Record<string, Locked>>;
};
const problems: string[] = [];
let seen = 0;
for (const [path, locked] of Object.entries(packages)) {
  if (path === "" || locked.link === true || !path.includes("node_modules/")) continue;
  seen += 1;
  const licence = await licenceOf(path, locked);
  const isTool = locked.dev === true || locked.devOptional === true;
  if (!isAllowed(licence, isTool ? FOR_TOOLS : PERMISSIVE))
    problems.push(`${path} ${locked.version ?? ""}: ${licence}`);
  if (locked.integrity === undefined) problems.push(`${path}: its checksum is not pinned`);
  if (locked.resolved !== undefined && !locked.resolved.startsWith("https://"))
    problems.push(`${path}: comes from ${locked.resolved}`);
}
if (seen < 100) problems.push(`only ${seen} packages were seen: the lock file is not read right`);
for (const problem of problems) console.log(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
