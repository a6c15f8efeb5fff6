// The search for the canary and for tokens: all that a broker leaves, read as it rests, and every guise that one may have.
import { readFile, readdir } from "node:fs/promises";
import { join } from "node:path";
import pg from "pg";

/** Every table as text: a file may hold it compressed. */
export async function dumpOf(folder: string): Promise<string> {
  const password = (await readFile(join(folder, "postgres.password"), "utf8")).trim();
  const database = new pg.Client({
    host: join(folder, "postgres"),
    port: 5432,
    user: "coffer",
    database: "coffer",
    password,
  });
  await database.connect();
  try {
    const { rows: tables } = await database.query(
      "SELECT tablename FROM pg_tables WHERE schemaname = 'public'",
    );
    const dumps = [];
    for (const { tablename } of tables) {
      const { rows } = await database.query(`SELECT t::text AS line FROM "${tablename}" t`);
      dumps.push(...rows.map(({ line }) => `${tablename}: ${line}`));
    }
    return dumps.join("\n");
  } finally {
    await database.end();
  }
}

/** A secret as it may appear: as it is, in hex, in base64 wherever it begins, spelt out in JSON or a URL. */
export function guises(secret: string): Map<string, Buffer> {
  const bytes = Buffer.from(secret);
  const hex = bytes.toString("hex");
  const inBase64 = [0, 1, 2].map((shift) => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString("base64")
      .replaceAll("=", "");
    // What depends on the neighbours is left out.
    return [`base64+${shift}`, text.slice(shift === 0 ? 0 : shift + 1, -2)] as const;
  });
  const found: (readonly [string, string])[] = [
    ["raw", secret],
    ["hex", hex],
    ["HEX", hex.toUpperCase()],
    ...inBase64,
    ["base64url", bytes.toString("base64url").slice(0, -2)],
    ["percent", hex.replaceAll(/../g, "%$&")],
    [
      "escaped",
      Array.from(secret, (each) => `\\u${each.charCodeAt(0).toString(16).padStart(4, "0")}`).join(""),
    ],
  ];
  return new Map([
    ...found.map(([name, text]) => [name, Buffer.from(text)] as const),
    ["utf16", Buffer.from(secret, "utf16le")],
  ]);
}

export function findingsIn(
  place: string,
  content: Buffer,
  secrets: ReadonlyMap<string, ReadonlyMap<string, Buffer>>,
): string[] {
  return [...secrets].flatMap(([name, forms]) =>
    [...forms]
      .filter(([, bytes]) => content.includes(bytes))
      .map(([form]) => `${name} (${form}) in ${place}`),
  );
}

export async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}
