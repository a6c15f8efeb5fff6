// What the tests of federation share: a CI whose key the test has, an identity provider of the instance, and two
// replicas that trust them.
import {
  type Answer,
  type Api,
  type TestBroker,
  type World,
  client,
  furnish,
  made,
  startBroker,
} from "../harness/broker.ts";
import { AUDIENCE, issuerOf } from "./sign-in-kit.ts";

export const SUBJECT = "repo:acme/train:ref:refs/heads/main";
export const ci = issuerOf("https://ci.test");
/** Of the instance: whose subjects are persons. */
export const people = issuerOf("https://people.test");

export type Body = Readonly<Record<string, unknown>>;

export const providersOf = ({ organization }: World): string =>
  `/organizations/${organization.id}/identity-providers`;

/** An identity provider whose tokens, of this subject, stand for a service account. */
export const bound = (service_account_id: string, more: Body = {}): Body => ({
  issuer: ci.issuer,
  audience: AUDIENCE,
  jwks: ci.jwks,
  bindings: [{ claims: { sub: SUBJECT }, service_account_id, ...more }],
});
export const register = (at: World, body: Body) => made(at.owner.api.post(providersOf(at), { body }));

/** An answer without what is its own. */
export const told = ({ status, body }: Answer): string =>
  JSON.stringify([status, { ...body, request_id: undefined }]);
/** What every bad subject token is told. */
export const REFUSED = JSON.stringify([
  400,
  { error: "invalid_grant", error_description: "The token is not valid." },
]);

export type Federation = {
  readonly broker: TestBroker;
  readonly beside: TestBroker;
  readonly world: World;
  readonly others: World;
  /** One token's caller on both replicas. */
  readonly both: (jwt: string) => readonly Api[];
  close(): Promise<void>;
};

export async function federation(): Promise<Federation> {
  const environment = {
    COFFER_PRIVATE_ADDRESSES_ALLOWED: "127.0.0.0/8",
    COFFER_IDENTITY_PROVIDERS: JSON.stringify([
      { issuer: people.issuer, audience: AUDIENCE, jwks: people.jwks },
    ]),
  };
  const broker = await startBroker({ environment });
  const beside = await startBroker({ beside: broker, environment });
  return {
    broker,
    beside,
    world: await furnish(broker),
    others: await furnish(broker),
    both: (jwt) => [broker.as(jwt), client(beside.url, jwt)],
    async close() {
      await beside.close();
      await broker.close();
    },
  };
}

export const statusesOf = (apis: readonly Api[], path = "/auth/me"): Promise<readonly number[]> =>
  Promise.all(apis.map(async (api) => (await api.get(path)).status));

/** The events of one request, in the log of an owner. */
export async function eventsOf(
  api: Api,
  owner: { readonly type: string; readonly id: string },
  answer: Answer,
) {
  const request_id = answer.headers.get("x-request-id") ?? "";
  const query = new URLSearchParams({ owner_type: owner.type, owner_id: owner.id, request_id });
  return (await made(api.get(`/audit?${query}`))).events;
}
