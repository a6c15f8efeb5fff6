// Where a client's token comes from: the caller, a file that somebody rotates, or an exchange (OAuth 2.0), whose
// access tokens are renewed before they expire. Whoever asks at the same time waits for the same exchange.
import { CofferError, invalidOptions } from "./error.ts";
import type { AccessToken } from "./generated/api.ts";
import type { Clock } from "./retry.ts";
import { Secret } from "./secret.ts";
import { type Tokens, type Transport, jsonOf } from "./transport.ts";

/** Text, or what gives it when it is needed. */
export type Text =
  | string
  | Secret<string>
  | (() => string | Secret<string> | Promise<string | Secret<string>>);

/** A service account with one of its API tokens (`client_credentials`). */
export type ClientCredentials = {
  readonly clientId: string;
  /** Scopes with blanks between: they only narrow. */
  readonly scope?: string;
} & ({ readonly clientSecret: Text } | { readonly clientSecretFile: string });

/** A token of an identity provider (RFC 8693), such as Kubernetes or a CI puts into a file. */
export type TokenExchange = {
  /** The service account to become; without it a person signs in. */
  readonly clientId?: string;
  readonly subjectTokenType?: "jwt" | "id_token";
  readonly scope?: string;
} & ({ readonly subjectToken: Text } | { readonly subjectTokenFile: string });

export type Credentials =
  | { readonly token: Text }
  | { readonly tokenFile: string }
  | { readonly exchange: ClientCredentials | TokenExchange };

export function createTokens(given: Credentials, transport: Transport, clock: Clock): Tokens {
  const ways = ["token", "tokenFile", "exchange"].filter((name) => name in given);
  if (ways.length !== 1) throw invalidOptions("A client takes one of token, tokenFile and exchange.");
  if ("token" in given) return fromText(given.token);
  if ("tokenFile" in given) return fromFile(given.tokenFile);
  return fromExchange(given.exchange, transport, clock);
}

function fromText(text: Text): Tokens {
  const get = async (): Promise<string> => {
    const given = typeof text === "function" ? await text() : text;
    return given instanceof Secret ? given.reveal() : given;
  };
  return { get, replace: async () => (typeof text === "function" ? get() : null) };
}

/** The little of node:fs that is used. */
type Files = {
  stat(path: string): Promise<{ readonly mtimeMs: number; readonly ino: number; readonly size: number }>;
  readFile(path: string, encoding: "utf8"): Promise<string>;
};

/** Asked of the runtime, not imported: bundlers for browsers then find nothing to complain about. */
function filesOf(): Files {
  const { process } = globalThis as unknown as {
    process?: { getBuiltinModule?(name: string): { readonly promises: Files } };
  };
  const files = process?.getBuiltinModule?.("node:fs")?.promises;
  if (files === undefined) throw invalidOptions("There are no files here: give the token, or a function.");
  return files;
}

/** Read again when the file has changed. A file that is being replaced may be missing for a moment. */
function fromFile(path: string): Tokens {
  const files = filesOf();
  let held: { readonly stamp: string; readonly token: string } | undefined;
  const read = async (): Promise<string> => {
    try {
      // Before the content: should it change in between, the next look sees that.
      const { mtimeMs, ino, size } = await files.stat(path);
      const stamp = `${mtimeMs} ${ino} ${size}`;
      if (held?.stamp !== stamp) held = { stamp, token: (await files.readFile(path, "utf8")).trim() };
    } catch (cause) {
      if (held === undefined) {
        const detail = `The token file ${path} could not be read.`;
        throw new CofferError({ status: 0, code: "no_token", detail }, { cause });
      }
    }
    return held.token;
  };
  return {
    get: read,
    async replace(refused) {
      if (held?.token === refused) held = undefined;
      return read();
    },
  };
}

const GRANT_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const TOKEN_TYPE = "urn:ietf:params:oauth:token-type:";
/** An access token is renewed when a fifth of its life is left, and in the last minute at the latest. */
const RENEW_SHARE = 0.2;
const RENEW_MS_MAX = 60_000;

function fromExchange(
  exchange: ClientCredentials | TokenExchange,
  transport: Transport,
  clock: Clock,
): Tokens {
  const form = formOf(exchange);
  let held: { readonly token: string; readonly renewAt: number; readonly expiresAt: number } | undefined;
  let flight: Promise<string> | undefined;

  async function fetchToken(): Promise<string> {
    const asked = clock.now();
    const answer = await transport(
      {
        method: "POST",
        path: "/auth/token",
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams(await form()).toString(),
        repeat: "safe",
      },
      null,
    );
    const { access_token: token, expires_in } = jsonOf(answer) as AccessToken;
    const lifeMs = expires_in * 1_000;
    const expiresAt = asked + lifeMs;
    held = { token, expiresAt, renewAt: expiresAt - Math.min(lifeMs * RENEW_SHARE, RENEW_MS_MAX) };
    return token;
  }

  function renew(): Promise<string> {
    flight ??= fetchToken().finally(() => {
      flight = undefined;
    });
    return flight;
  }

  const get = async (): Promise<string> => {
    const now = clock.now();
    if (held === undefined || now >= held.expiresAt) return renew();
    // While the old one is good nobody waits, and a failure is nobody's: the next call tries again.
    if (now >= held.renewAt) renew().catch(() => undefined);
    return held.token;
  };
  return {
    get,
    async replace(refused) {
      if (held?.token === refused) held = undefined;
      return get();
    },
  };
}

/** The form of each exchange; secrets are had anew each time. */
function formOf(exchange: ClientCredentials | TokenExchange): () => Promise<Record<string, string>> {
  const { clientId, scope } = exchange;
  const common = {
    ...(clientId === undefined ? {} : { client_id: clientId }),
    ...(scope === undefined ? {} : { scope }),
  };
  if ("clientSecret" in exchange || "clientSecretFile" in exchange) {
    const secret =
      "clientSecret" in exchange ? fromText(exchange.clientSecret) : fromFile(exchange.clientSecretFile);
    return async () => ({ ...common, grant_type: "client_credentials", client_secret: await secret.get() });
  }
  const subject =
    "subjectToken" in exchange ? fromText(exchange.subjectToken) : fromFile(exchange.subjectTokenFile);
  const subject_token_type = TOKEN_TYPE + (exchange.subjectTokenType ?? "jwt");
  return async () => ({
    ...common,
    grant_type: GRANT_EXCHANGE,
    subject_token: await subject.get(),
    subject_token_type,
  });
}
