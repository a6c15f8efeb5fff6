// The canary, and the calls that put it in every place of a route where it does not belong.
import { randomBytes } from "node:crypto";
import type { World } from "../harness/broker.ts";

/** Letters and digits, so that no escaping hides it; what surrounds it in values wants escaping everywhere. */
export const CORE = `Canary${randomBytes(15).toString("hex")}`;
export const CANARY = `é"\\${CORE}/\u0001+`;
/** Refused wherever it is put, since nothing here may hold a NUL. */
const REFUSED = `${CORE}\0`;

type Parameter = { readonly name: string; readonly in: string; readonly required: boolean };
export type Operation = {
  readonly "x-coffer-action"?: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: object;
};
export type Route = { readonly method: string; readonly path: string; readonly operation: Operation };

export type Call = {
  /** What a success of this call is for is to show a value. */
  readonly opens?: boolean;
  readonly method: string;
  readonly path: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
};

/** The route's URL with everything in its place. */
export function urlOf(
  { organization, project, owner }: World,
  { path, operation }: Route,
  changed: Readonly<Record<string, string>> = {},
): string {
  const plain: Readonly<Record<string, string>> = {
    organization_id: organization.id,
    project_id: project.id,
    principal_id: owner.id,
    user_id: owner.id,
    owner_type: "project",
    owner_id: project.id,
    path: "secret/Custom/a",
    action: "list",
    version: "1",
  };
  const unknown = "01900000-0000-7000-8000-000000000000";
  let url = path;
  const query = new URLSearchParams();
  for (const { name, in: place, required } of operation.parameters ?? []) {
    const value = changed[name] ?? plain[name] ?? unknown;
    if (place === "path") url = url.replace(`{${name}}`, encodeURIComponent(value));
    else if (place === "query" && (required || changed[name] !== undefined)) query.set(name, value);
  }
  return `${url}${query.size === 0 ? "" : `?${query.toString()}`}`;
}

/** The canary in every place of a route where it does not belong. */
export function misplaced(world: World, route: Route): Call[] {
  const { method, operation } = route;
  const { parameters = [], requestBody } = operation;
  const url = urlOf(world, route);
  const json = { "content-type": "application/json" };
  const plain = requestBody === undefined ? {} : { headers: json, body: "{}" };
  const calls: Call[] = [
    ...parameters
      .filter((each) => each.in !== "header")
      .map(({ name }) => Object.assign({ method, path: urlOf(world, route, { [name]: CORE }) }, plain)),
    { method, path: `${url}${url.includes("?") ? "&" : "?"}${CORE}=${CORE}` },
    { method, path: `${url}${url.includes("?") ? "&" : "?"}value=${encodeURIComponent(CANARY)}` },
    { method, path: `${url.split("?", 1)[0]}/${CORE}` },
    { method: "TRACE", path: url, headers: { cookie: CORE } },
    ...[
      "if-match",
      "if-none-match",
      "accept",
      "content-type",
      "authorization",
      "cookie",
      "x-forwarded-for",
      "expect",
      "referer",
      CORE,
    ].map((name) => ({
      method,
      path: url,
      headers: { [name]: CORE },
      body: requestBody === undefined ? "" : "{}",
    })),
    { method, path: url, headers: { authorization: `Basic ${Buffer.from(`a:${CORE}`).toString("base64")}` } },
    { method, path: url, headers: { authorization: `Bearer cfr_${CORE}` } },
    { method, path: url, headers: { "if-match": `"${CORE}"` } },
  ];
  if (requestBody === undefined) return [...calls, { method, path: url, headers: json, body: `"${CORE}"` }];
  const fields = [
    "name",
    "description",
    "email",
    "labels",
    "scopes",
    "principal_id",
    "owner_id",
    "expires_at",
    "role",
    "storage",
    "manager",
    "code",
    "value",
  ];
  const bodies = [
    CORE,
    `{"${CORE}`,
    JSON.stringify(CANARY),
    JSON.stringify([CANARY]),
    JSON.stringify({ [CORE]: CORE }),
    JSON.stringify({ value: { [CORE]: CORE } }),
    JSON.stringify({ value: { access_key_id: REFUSED, secret_access_key: [CORE] } }),
    JSON.stringify({ value: { registry: CORE, username: CORE, password: CORE, more: CORE } }),
    JSON.stringify({ value: CORE, labels: { [`!${CORE}`]: CORE } }),
    JSON.stringify({ value: CORE, labels: { nested: { [CORE]: CORE } } }),
    JSON.stringify({ value: CORE, storage: CORE }),
    JSON.stringify({ value: CORE, expires_at: "2001-01-01T00:00:00Z" }),
    JSON.stringify({ value: CORE.repeat(2_000) }),
    JSON.stringify({ value: CORE.repeat(10_000) }),
    `{"__proto__":{"${CORE}":1}}`,
    ...fields.map((name) => JSON.stringify({ [name]: REFUSED })),
    ...fields.map((name) => JSON.stringify({ [name]: { [CORE]: [CORE] } })),
  ];
  return [
    ...calls,
    ...bodies.map((body) => ({ method, path: url, headers: json, body })),
    {
      method,
      path: url,
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: `client_secret=${CORE}&code=${CORE}`,
    },
    { method, path: url, headers: { "content-type": `text/${CORE}` }, body: CORE },
  ];
}
