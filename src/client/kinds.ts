// What the client commands share: who we are, and how they fail. A message holds no value and no token.

export type Identity =
  | { readonly kind: "token"; readonly token: string }
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "exchange"; readonly client_id: string; readonly subjectTokenFile: string };

/** It cannot be done; the message says why, for people. */
export class Refused extends Error {}

/** A command was given what it does not take. */
export class Misused extends Refused {}

/** The code of a failure of the system: ENOENT, ECONNREFUSED, …; never its message, which may quote input. */
export function codeOf(error: unknown): string {
  if (!(error instanceof Error)) return "unknown";
  if ("code" in error && typeof error.code === "string") return error.code;
  return error.cause === undefined ? error.name : codeOf(error.cause);
}

/**
 * Why a fetch had no answer: in the words of what caused it, which are about addresses, names and certificates. The
 * words of an error without a cause are not told: it may be about what was to be sent.
 */
export function reasonOf(error: unknown): string {
  let cause = error;
  while (cause instanceof Error && cause.cause instanceof Error) cause = cause.cause;
  const code = codeOf(error);
  if (cause === error || !(cause instanceof Error) || cause.message === "") return code;
  const words = cause.message.replaceAll(/\p{Cc}+/gu, " ");
  return code === cause.name || words.includes(code) ? words : `${words} (${code})`;
}
