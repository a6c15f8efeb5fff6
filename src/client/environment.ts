// What the client commands take from the environment: where the broker is, who we are to it, and the references that
// stand for values. The only reader of process.env among them; it never shows what it read.
import { type Identity, Refused } from "./kinds.ts";

type Environment = Readonly<Record<string, string | undefined>>;
export type ClientConfig = { readonly url: string; readonly identity: Identity };

const URL_DEFAULT = "http://127.0.0.1:7420";
/** What a command that is run with secrets has no use for, and must not be able to ask for others with. */
const CREDENTIALS = new Set([
  "COFFER_TOKEN",
  "COFFER_TOKEN_FILE",
  "COFFER_CLIENT_ID",
  "COFFER_SUBJECT_TOKEN_FILE",
]);

/** @throws Refused */
export function readClientConfig(environment: Environment = process.env): ClientConfig {
  const text = (name: string): string => environment[name]?.trim() ?? "";
  return { url: brokerUrl(text("COFFER_URL") || URL_DEFAULT), identity: identityOf(text) };
}

function brokerUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "")
    throw new Refused("COFFER_URL is the broker's address, http://… or https://….");
  if (url.username !== "" || url.password !== "")
    throw new Refused("COFFER_URL holds no user and no password.");
  return url.href.replace(/\/+$/, "");
}

function identityOf(text: (name: string) => string): Identity {
  const token = text("COFFER_TOKEN");
  if (token !== "") return { kind: "token", token };
  const path = text("COFFER_TOKEN_FILE");
  if (path !== "") return { kind: "file", path };
  const client_id = text("COFFER_CLIENT_ID");
  const subjectTokenFile = text("COFFER_SUBJECT_TOKEN_FILE");
  if (client_id !== "" && subjectTokenFile !== "") return { kind: "exchange", client_id, subjectTokenFile };
  throw new Refused(
    "Who are we? Set COFFER_TOKEN, or COFFER_TOKEN_FILE, or COFFER_CLIENT_ID and COFFER_SUBJECT_TOKEN_FILE.",
  );
}

/** Lenient, so that what was meant as a reference is never taken for a value; the broker is strict. */
export function isReference(text: string): boolean {
  return /^(coffer:\/\/|_SECRET_-)/i.test(text.trim());
}

/** The environment's references, and what a command gets beside them: everything but our credentials. */
export function splitEnvironment(environment: Environment = process.env) {
  const references = new Map<string, string>();
  const others: Record<string, string> = {};
  for (const [name, text] of Object.entries(environment)) {
    if (text === undefined || CREDENTIALS.has(name)) continue;
    if (isReference(text)) references.set(name, text.trim());
    else others[name] = text;
  }
  return { references, others };
}
