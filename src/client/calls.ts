// Calls to the broker: plain fetch, tried again while that can help (429, 503, no answer at all), never sooner than
// Retry-After says and not all clients at the same moment. No redirect is followed: a token goes to the broker alone.
import { setTimeout as pause } from "node:timers/promises";
import { createCredentials } from "./credentials.ts";
import type { ClientConfig } from "./environment.ts";
import { Refused, reasonOf } from "./kinds.ts";

/** Generous: an answer given up too early was served all the same, and is asked for and recorded twice. */
const ATTEMPT_MS_MAX = 30_000;
const RETRY_MS_MAX = 60_000;
const BACKOFF_MS_FIRST = 200;
const BACKOFF_MS_MAX = 10_000;
/** What fetch says of a port that it never asks (1, 25, 6000, …). */
const NEVER_ASKED = "bad port";

type Json = Readonly<Record<string, unknown>>;
/** Status 0: there was no answer, and `reason` says why. */
export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly body: unknown;
  readonly text: string;
  readonly reason: string;
};
export type Call = {
  readonly method: "GET" | "POST" | "PUT";
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Whether a success is text, and not JSON. */
  readonly isText?: boolean;
  /** Whether an answer that is a success is to be asked for again all the same. */
  readonly isPassing?: (body: unknown) => boolean;
};
/** One call, patiently. @throws Refused when it does not succeed in the end */
export type Ask = (call: Call) => Promise<unknown>;

export function createAsk({ url, identity }: ClientConfig): Ask {
  const credentials = createCredentials(identity, (client_id, subject_token) =>
    exchange(url, client_id, subject_token),
  );
  return async ({ method, path, query, body, isText = false, isPassing = () => false }) => {
    const address = url + path + (query === undefined ? "" : `?${new URLSearchParams(query).toString()}`);
    const send = async (): Promise<Answer> => {
      const token = await credentials.token();
      const answer = await sendWith(token);
      if (answer.status !== 401 || !(await credentials.renew(token))) return answer;
      return sendWith(await credentials.token());
    };
    const sendWith = (token: string): Promise<Answer> =>
      attempt(address, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          ...(body === undefined ? {} : { "content-type": "application/json" }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    const answer = await patiently(send, isPassing);
    const success = successOf(answer, url);
    return isText ? answer.text : success;
  };
}

async function exchange(url: string, client_id: string, subject_token: string): Promise<string> {
  const body = new URLSearchParams({
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    client_id,
    subject_token,
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
  });
  const granted = successOf(
    await patiently(() => attempt(`${url}/auth/token`, { method: "POST", body })),
    url,
  );
  if (isJson(granted) && typeof granted.access_token === "string") return granted.access_token;
  throw new Refused("The broker's answer has no access token.");
}

async function attempt(address: string, init: RequestInit): Promise<Answer> {
  try {
    const signal = AbortSignal.timeout(ATTEMPT_MS_MAX);
    const response = await fetch(address, { ...init, redirect: "manual", signal });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: parsed(text), text, reason: "" };
  } catch (error) {
    return { status: 0, headers: new Headers(), body: null, text: "", reason: reasonOf(error) };
  }
}

/** Null for what is no JSON: the parser's own error quotes its input. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function patiently(
  send: () => Promise<Answer>,
  isPassing: (body: unknown) => boolean = () => false,
): Promise<Answer> {
  const started = performance.now();
  for (let tries = 0; ; tries += 1) {
    const answer = await send();
    if (!mayPass(answer) && !(answer.status === 200 && isPassing(answer.body))) return answer;
    const backoff = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_FIRST * 2 ** tries);
    const wait = retryAfterMs(answer.headers) + Math.random() * backoff;
    if (performance.now() - started + wait > RETRY_MS_MAX) return answer;
    await pause(wait);
  }
}

/** A proxy says 502 and 504 of a broker that is being restarted; the broker's own 502 does not pass. */
function mayPass({ status, headers, reason }: Answer): boolean {
  if (status === 0) return reason !== NEVER_ASKED;
  if (status === 429 || status === 503) return true;
  return (status === 502 || status === 504) && !/json/.test(headers.get("content-type") ?? "");
}

function retryAfterMs(headers: Headers): number {
  const given = headers.get("retry-after") ?? "";
  if (/^\d{1,9}$/.test(given)) return Number(given) * 1_000;
  const at = Date.parse(given);
  return Number.isNaN(at) ? 0 : Math.max(0, at - Date.now());
}

function successOf({ status, body, reason }: Answer, url: string): unknown {
  if (status >= 200 && status < 300) return body;
  if (status === 0) throw new Refused(`No answer from ${url}: ${reason}.`);
  if (status >= 300 && status < 400)
    throw new Refused(`${url} answers with a redirect, which is not followed: use the address it names.`);
  const problem = isJson(body) ? body : {};
  const code = textOf(problem.code) || textOf(problem.error) || "unknown";
  const detail = textOf(problem.detail) || textOf(problem.error_description);
  const errors = Array.isArray(problem.errors) ? problem.errors.filter(isJson) : [];
  const fields = errors.map(({ pointer, detail }) => `${textOf(pointer)} ${textOf(detail)}`.trim());
  // As a rule the detail is that of the first field.
  const told = errors.some((each) => each.detail === detail) ? fields : [detail, ...fields];
  const request = textOf(problem.request_id);
  throw new Refused(
    `${status} ${code}: ${told.join("\n  ")}${request === "" ? "" : ` (request ${request})`}`,
  );
}

export function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}
