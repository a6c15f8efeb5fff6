// What is measured: each case's requests, spread over tenants, owners and settings, and the answer that a bare
// Fastify gives in its place, byte for byte.
import type { BareAnswer } from "./bare.ts";
import {
  BATCH_OF,
  BATCH_PREFIX,
  type Furnished,
  SINGLES,
  type Tenant,
  accessToken,
  pathOf,
} from "./furnish.ts";
import type { Shot } from "./load.ts";
import type { Started } from "./processes.ts";

export type Credential = "api" | "access";
export type Case = {
  readonly name: string;
  readonly credential: Credential;
  readonly status: number;
  readonly shots: readonly Shot[];
  /** Measured beside a bare Fastify that opens twenty values, too. */
  readonly opensTwenty: boolean;
  /** How many of a round's requests are enough, since each is dear. */
  readonly share: number;
};

const SHOTS = 4_000;
const SHARES: Readonly<Record<string, number>> = {
  "20 values": 0.5,
  "list of 20": 0.5,
  "20 references": 0.5,
  write: 0.2,
  "sign-in": 0.2,
};

const any = <Item>(items: readonly Item[]): Item => items[Math.floor(Math.random() * items.length)] as Item;

/** Sign-ins are limited by address. */
const address = (): string => `10.${[0, 0, 0].map(() => Math.floor(Math.random() * 256)).join(".")}`;

/** Access tokens live for a quarter of an hour only. */
export async function refreshed({ tenants }: Furnished, broker: Started): Promise<Furnished> {
  return {
    tenants: await Promise.all(
      tenants.map(async (tenant) => {
        const access = await accessToken(broker, tenant.workerId, tenant.tokens.api);
        return { ...tenant, tokens: { ...tenant.tokens, access } };
      }),
    ),
  };
}

export async function casesOf(
  { tenants }: Furnished,
  broker: Started,
  only: RegExp,
): Promise<readonly Case[]> {
  const spread = (make: (tenant: Tenant, project: string) => Shot): Shot[] =>
    Array.from({ length: SHOTS }, () => {
      const tenant = any(tenants);
      return make(tenant, any(tenant.projects));
    });
  const at = (project: string, path: string, rest = ""): string =>
    `/settings?owner_type=project&owner_id=${project}&path=${path}${rest}`;
  const get = (path: string, token: string, more = {}): Shot => ({
    method: "GET",
    path,
    headers: { authorization: `Bearer ${token}`, ...more },
  });
  const single = (): string => pathOf(Math.floor(Math.random() * SINGLES));

  const all: Promise<Case>[] = [];
  const add = (name: string, status: number, make: (credential: Credential) => Shot[] | Promise<Shot[]>) => {
    for (const credential of ["api", "access"] as const)
      if (only.test(`${name}, ${credential}`))
        all.push(
          Promise.resolve(make(credential)).then((shots) => ({
            name,
            credential,
            status,
            shots,
            opensTwenty: name === "20 values",
            share: SHARES[name] ?? 1,
          })),
        );
  };
  add("one value", 200, (by) =>
    spread(({ tokens }, id) => get(at(id, single(), "&decrypt=true"), tokens[by])),
  );
  add("one value, strict", 200, (by) =>
    spread(({ tokens }, id) => get(at(id, single()).replace("/settings?", "/settings/value?"), tokens[by])),
  );
  add("20 values", 200, (by) =>
    spread(({ tokens }, id) => get(at(id, BATCH_PREFIX, "&decrypt=true"), tokens[by])),
  );
  add("list of 20", 200, (by) => spread(({ tokens }, id) => get(at(id, BATCH_PREFIX), tokens[by])));
  add("20 references", 200, (by) =>
    spread(({ tokens }, id) => ({
      method: "POST" as const,
      path: "/settings/resolve",
      headers: { authorization: `Bearer ${tokens[by]}`, "content-type": "application/json" },
      body: JSON.stringify({
        refs: Array.from({ length: BATCH_OF }, (_, n) => `project/${id}/${pathOf(SINGLES + n)}`),
      }),
    })),
  );
  add("304", 304, async (by) => {
    const few = spread(({ tokens }, id) => get(at(id, single(), "&decrypt=true"), tokens[by])).slice(0, 300);
    const known: Shot[] = [];
    // One after the other: so many at once would be turned away.
    for (const shot of few) {
      const answer = await fetch(broker.url + shot.path, { headers: shot.headers });
      const etag = answer.headers.get("etag");
      if (etag === null) throw new Error(`a read was answered ${answer.status}`);
      known.push({ ...shot, headers: { ...shot.headers, "if-none-match": etag } });
    }
    return known;
  });
  add("403", 403, (by) =>
    spread(({ strangers }, id) => get(at(id, single(), "&decrypt=true"), strangers[by])),
  );
  add("write", 200, (by) =>
    spread(({ tokens }, id) => ({
      method: "PUT" as const,
      path: at(id, single()),
      headers: { authorization: `Bearer ${tokens[by]}`, "content-type": "application/json" },
      body: '{"value":"a value that is new each time: #"}',
    })),
  );
  add("sign-in", 200, (by) =>
    by === "access"
      ? []
      : spread(({ workerId, tokens }) => ({
          method: "POST" as const,
          path: "/auth/token",
          headers: { "content-type": "application/x-www-form-urlencoded", "x-forwarded-for": address() },
          body: `grant_type=client_credentials&client_id=${workerId}&client_secret=${tokens.api}`,
        })),
  );
  return (await Promise.all(all)).filter(({ shots }) => shots.length > 0);
}

/** The answer that the broker gives to one of the case's requests. */
export async function sampleOf(each: Case, broker: Started): Promise<BareAnswer> {
  const [{ method, path, headers, body } = { method: "GET", path: "/", headers: {}, body: undefined }] =
    each.shots;
  const sent = body === undefined ? {} : { body: body.replace("#", "0") };
  const response = await fetch(broker.url + path, { method, headers, ...sent });
  if (response.status !== each.status) throw new Error(`${each.name} was answered ${response.status}`);
  return { status: response.status, type: response.headers.get("content-type"), body: await response.text() };
}

/** The same requests, as the bare Fastify takes them. */
export function bareShots({ shots, name }: Case, under: "" | "/open"): readonly Shot[] {
  return shots
    .slice(0, 200)
    .map((shot) => ({ ...shot, path: `${under}/${slug(name)}?${shot.path.split("?")[1] ?? ""}` }));
}

export const slug = (name: string): string => name.replaceAll(/[^a-z0-9]+/g, "-");
