// One call over HTTP: the token, a time limit, retries, and failures as CofferError. It never repeats what might
// have been done already, follows no redirect (a body may be a secret), and puts no body into an error.
import { CofferError, type ErrorCode, invalidOptions } from "./error.ts";
import type { Problem } from "./generated/api.ts";
import { type Clock, type RetryPolicy, abortable, createBackoff } from "./retry.ts";

export type Query = { readonly [name: string]: string | number | boolean | undefined };
export type Call = {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Query | undefined;
  readonly headers?: Readonly<Record<string, string | undefined>>;
  readonly body?: string;
  /**
   * What may be repeated. `safe`: whatever happened. `refused`: only where nothing was done for certain (429), for an
   * answer that got lost may have been a success, and a 503 may come after the commit. `never`: nothing.
   */
  readonly repeat: "safe" | "refused" | "never";
  readonly signal?: AbortSignal | undefined;
};
export type Answer = { readonly status: number; readonly headers: Headers; readonly text: string };

/** Where tokens come from. */
export type Tokens = {
  get(): Promise<string>;
  /** Another one than `refused`, if there is one to be had. */
  replace(refused: string): Promise<string | null>;
};

export type TransportOptions = {
  readonly url: string;
  readonly fetch: typeof fetch;
  readonly policy: RetryPolicy;
  readonly timeoutMs: number;
  readonly clock: Clock;
};
export type Transport = (call: Call, tokens: Tokens | null) => Promise<Answer>;

const NOT_MODIFIED = 304;
const UNAUTHENTICATED = 401;
const TOO_MANY_REQUESTS = 429;

export function createTransport({ url, fetch, policy, timeoutMs, clock }: TransportOptions): Transport {
  const base = baseOf(url);

  async function once(call: Call, token: string | null): Promise<Answer> {
    const timeout = AbortSignal.timeout(timeoutMs);
    const { method, body, signal } = call;
    const request = {
      method,
      headers: headersOf(call, token),
      redirect: "manual" as const,
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
      ...(body === undefined ? {} : { body }),
    };
    try {
      const response = await fetch(base + call.path + queryOf(call.query), request);
      return { status: response.status, headers: response.headers, text: await response.text() };
    } catch (cause) {
      signal?.throwIfAborted();
      const late = timeout.aborted;
      const detail = late ? `No answer within ${timeoutMs} ms.` : "The broker could not be reached.";
      throw new CofferError({ status: 0, code: late ? "timeout" : "unreachable", detail }, { cause });
    }
  }

  async function attempt(call: Call, token: string | null): Promise<Answer> {
    const answer = await once(call, token);
    if ((answer.status >= 200 && answer.status < 300) || answer.status === NOT_MODIFIED) return answer;
    throw errorOf(answer, clock);
  }

  return async (call, tokens) => {
    const backoff = createBackoff(policy, clock);
    const { signal } = call;
    let token = tokens === null ? null : await abortable(() => tokens.get(), signal);
    for (let renewed = false; ; ) {
      try {
        return await attempt(call, token);
      } catch (error) {
        if (!(error instanceof CofferError)) throw error;
        if (error.status === UNAUTHENTICATED && tokens !== null && token !== null && !renewed) {
          const refused = token;
          const other = await abortable(() => tokens.replace(refused), signal);
          if (other === null || other === refused) throw error;
          [token, renewed] = [other, true];
          continue;
        }
        const wait = mayRepeat(call, error) ? backoff.next(error.retryAfterMs) : null;
        if (wait === null) throw error;
        await clock.sleep(wait, signal);
        // The wait may have been longer than the token lives.
        if (tokens !== null) token = await abortable(() => tokens.get(), signal);
      }
    }
  };
}

/** The answer's body, parsed. The parser's own message would quote it. */
export function jsonOf({ status, headers, text }: Answer): unknown {
  try {
    return JSON.parse(text);
  } catch {
    const requestId = headers.get("x-request-id") ?? undefined;
    throw new CofferError({ status, code: "invalid_answer", detail: "The answer is not JSON.", requestId });
  }
}

function mayRepeat({ repeat }: Call, error: CofferError): boolean {
  if (repeat === "never" || !error.temporary) return false;
  return repeat === "safe" || error.status === TOO_MANY_REQUESTS;
}

function baseOf(url: string): string {
  const { protocol, username, password, search, hash } = URL.canParse(url) ? new URL(url) : new URL("none:");
  if ((protocol !== "http:" && protocol !== "https:") || `${username}${password}${search}${hash}` !== "")
    throw invalidOptions("url is the broker's http(s) address, without credentials, query or fragment.");
  return url.replace(/\/+$/, "");
}

function queryOf(query: Query = {}): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    if (value !== undefined) given.append(name, String(value));
  const text = given.toString();
  return text === "" ? "" : `?${text}`;
}

function headersOf({ headers = {}, body }: Call, token: string | null): Record<string, string> {
  const all = {
    accept: "application/json",
    "content-type": body === undefined ? undefined : "application/json",
    authorization: token === null ? undefined : `Bearer ${bearable(token)}`,
    ...headers,
  };
  return Object.fromEntries(
    Object.entries(all).filter((each): each is [string, string] => each[1] !== undefined),
  );
}

/** A token that is none would be quoted by the error of fetch. */
function bearable(token: string): string {
  if (/^[\x21-\x7e]+$/.test(token)) return token;
  throw new CofferError({ status: 0, code: "no_token", detail: "The token is empty or no token at all." });
}

type ErrorBody = Partial<Problem> & { readonly error?: string; readonly error_description?: string };

function errorOf({ status, headers, text }: Answer, clock: Clock): CofferError {
  const requestId = headers.get("x-request-id") ?? undefined;
  if (status === 0 || (status >= 300 && status < 400))
    return new CofferError({ status, code: "redirected", detail: "The broker never redirects.", requestId });
  const problem = problemIn(text);
  const code = problem.code ?? problem.error ?? codeOf(status);
  // What is no problem came from something in between; its text is nobody's business.
  const detail = problem.detail ?? problem.error_description ?? "The answer says no more.";
  const retryAfterMs = retryAfterOf(headers.get("retry-after"), clock);
  return new CofferError({ status, code, detail, requestId, retryAfterMs, problem });
}

function problemIn(text: string): ErrorBody {
  try {
    const body: unknown = JSON.parse(text);
    const isProblem = typeof body === "object" && body !== null && ("code" in body || "error" in body);
    return isProblem ? (body as ErrorBody) : {};
  } catch {
    return {};
  }
}

function codeOf(status: number): ErrorCode {
  if (status === 429) return "rate_limited";
  return status === 503 ? "unavailable" : "invalid_answer";
}

/** Seconds, or a date. */
function retryAfterOf(header: string | null, clock: Clock): number | undefined {
  if (header === null) return undefined;
  const ms = /^\d+$/.test(header) ? Number(header) * 1_000 : Date.parse(header) - clock.now();
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}
