// What the tests of /settings share: the calls at one owner, the events of one request, and a database's attacker.
import pg from "pg";
import { vi } from "vitest";
import { type Answer, type Api, type TestBroker, type World, made, settingsUrl } from "../harness/broker.ts";

type Query = Record<string, string>;
type Headers = Readonly<Record<string, string>>;
export type Owner = { readonly type: string; readonly id: string };
export type SettingsApi = ReturnType<typeof settingsOf>;

/** The calls on settings by one caller at one owner. */
export function settingsOf(api: Api, owner: Owner) {
  const url = (path: string | undefined, query: Query = {}, at?: string) =>
    settingsUrl(owner, path, query, at);
  return {
    url,
    list: (path?: string, query?: Query, headers: Headers = {}) => api.get(url(path, query), { headers }),
    open: (path?: string, query: Query = {}, headers: Headers = {}) =>
      api.get(url(path, { ...query, decrypt: "true" }), { headers }),
    value: (path: string, query?: Query, headers: Headers = {}) =>
      api.get(url(path, query, "/settings/value"), { headers }),
    versions: (path: string) => api.get(url(path, {}, "/settings/versions")),
    put: (path: string, value: unknown, rest: object = {}, headers: Headers = {}) =>
      api.put(url(path), { body: { value, ...rest }, headers }),
    patch: (path: string, body: unknown, headers: Headers = {}) => api.patch(url(path), { body, headers }),
    remove: (path: string, headers: Headers = {}) => api.delete(url(path), { headers }),
    purge: (path: string, headers: Headers = {}) => api.delete(url(path, { purge: "true" }), { headers }),
    restore: (path: string, headers: Headers = {}) =>
      api.post(url(path, {}, "/settings/restore"), { headers }),
    rollback: (path: string, version: number, headers: Headers = {}) =>
      api.post(url(path, { version: String(version) }, "/settings/rollback"), { headers }),
    destroy: (path: string, version: number, headers: Headers = {}) =>
      api.delete(url(path, { version: String(version) }, "/settings/versions"), { headers }),
  };
}

/** The paths of a listed page. */
export const pathsOf = ({ body }: Answer): string[] =>
  body.settings.map(({ path }: { path: string }) => path);

/** What the audit log holds of one request, in the order in which it was written. */
export async function eventsOf({ owner, project }: World, answer: Answer, at: Owner = project) {
  const request_id = answer.headers.get("x-request-id") ?? "";
  const query = new URLSearchParams({ owner_type: at.type, owner_id: at.id, request_id, order: "asc" });
  const { events } = await made(owner.api.get(`/audit?${query.toString()}`));
  return events;
}

/** The same of the instance's log: what was asked of owners that there are not, and of the instance itself. */
export async function instanceEvents({ admin }: TestBroker, answer: Answer) {
  const request_id = answer.headers.get("x-request-id") ?? "";
  const { events } = await made(admin.get(`/audit?owner_type=instance&order=asc&request_id=${request_id}`));
  return events;
}

/** A caller with a token that is scoped below the given one's rights. */
export async function scoped(broker: TestBroker, api: Api, ...scopes: string[]): Promise<Api> {
  const { token } = await made(api.post("/tokens", { body: { name: "scoped", scopes } }));
  return broker.as(token);
}

/** Who can write to the database, and has no key. */
export async function attack(broker: TestBroker, text: string, parameters: readonly unknown[] = []) {
  const client = new pg.Client({ connectionString: broker.databaseUrl });
  await client.connect();
  try {
    return await client.query(text, [...parameters]);
  } finally {
    await client.end();
  }
}

/** Runs `work` while every clock of this process, the broker's among them, shows a later time. */
export async function later<Result>(seconds: number, work: () => Promise<Result>): Promise<Result> {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + seconds * 1000 });
  try {
    return await work();
  } finally {
    vi.useRealTimers();
  }
}

/** So many seconds from now, as a client writes it. */
export const inSeconds = (seconds: number): string => new Date(Date.now() + seconds * 1000).toISOString();
