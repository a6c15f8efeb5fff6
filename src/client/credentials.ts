// The token that calls carry: as given, from a file, or had for a workload's own identity by a token exchange.
import { readFile } from "node:fs/promises";
import { type Identity, Refused, codeOf } from "./kinds.ts";

/** Exchanges a subject token; @throws Refused */
export type Exchange = (client_id: string, subjectToken: string) => Promise<string>;

export type Credentials = {
  token(): Promise<string>;
  /** After a 401: whether there is now a token other than `refused`. */
  renew(refused: string): Promise<boolean>;
};

export function createCredentials(identity: Identity, exchange: Exchange): Credentials {
  let held: Promise<string> | null = null;
  const token = (): Promise<string> => (held ??= tokenOf(identity, exchange));
  return {
    token,
    async renew(refused) {
      if (identity.kind === "token") return false;
      held = null;
      return (await token()) !== refused;
    },
  };
}

async function tokenOf(identity: Identity, exchange: Exchange): Promise<string> {
  switch (identity.kind) {
    case "token":
      return checked(identity.token);
    case "file":
      return readToken(identity.path);
    case "exchange":
      return exchange(identity.client_id, await readToken(identity.subjectTokenFile));
  }
}

async function readToken(path: string): Promise<string> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw new Refused(`The token file ${path} cannot be read: ${codeOf(error)}.`);
  });
  return checked(text.trim());
}

/** Fit for a header: what would refuse it later quotes it. */
function checked(token: string): string {
  if (/^[!-~]+$/.test(token)) return token;
  throw new Refused("The token is empty, or has characters that no token has.");
}
