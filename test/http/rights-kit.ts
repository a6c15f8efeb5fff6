// What the tests of rights share: people, narrow tokens, and answers stripped of what may differ.
import pg from "pg";
import { type Answer, type Api, type TestBroker, client, made } from "../harness/broker.ts";

/** A well-formed id of nothing. */
export const NOBODY = "01900000-0000-7000-8000-000000000000";
export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
export const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/;

/** A user with a first token. */
export async function person(broker: TestBroker, name = "Pat Person") {
  const { id, enrolment_code: code } = await made(broker.admin.post("/users", { body: { name } }));
  const { token, id: token_id } = await made(client(broker.url, "").post("/auth/enrol", { body: { code } }));
  return { id: id as string, token_id: token_id as string, api: broker.as(token) };
}

/** A token of the caller's own, or of a service account of its organization. */
export async function narrower(broker: TestBroker, api: Api, body: Record<string, unknown>) {
  const { id, token } = await made(api.post("/tokens", { body: { name: "narrow", ...body } }));
  return { id: id as string, api: broker.as(token) };
}

export async function organizationOf(broker: TestBroker, owner_id: string, name: string) {
  const { id } = await made(broker.admin.post("/organizations", { body: { name, owner_id } }));
  return { type: "organization", id: id as string };
}

export async function projectOf(owner: Api, organization: { id: string }, name: string) {
  const { id } = await made(owner.post(`/organizations/${organization.id}/projects`, { body: { name } }));
  return { type: "project", id: id as string };
}

const PASSING = new Set([
  "x-request-id",
  "date",
  "ratelimit-remaining",
  "ratelimit-reset",
  "ratelimit-limit",
]);

/** Status, headers and body without what differs from request to request. */
export function bare({ status, headers, text, body }: Answer) {
  return {
    status,
    headers: [...headers].filter(([name]) => !PASSING.has(name)),
    text: text.replace(body.request_id, "<id>"),
  };
}

export const statuses = async (answers: Promise<Answer>[]): Promise<number[]> =>
  (await Promise.all(answers)).map(({ status }) => status).toSorted((one, other) => one - other);

/** Statements straight to a broker's database. */
export async function sql(broker: TestBroker, ...statements: string[]): Promise<void> {
  const direct = new pg.Client({ connectionString: broker.databaseUrl });
  await direct.connect();
  try {
    for (const statement of statements) await unlessDeadlocked(() => direct.query(statement));
  } finally {
    await direct.end();
  }
}

/**
 * A statement that locks the log and its months may cross one of the broker's own; PostgreSQL ends one of the two then,
 * and the broker is not the one that tries again here.
 */
async function unlessDeadlocked(ask: () => Promise<unknown>): Promise<void> {
  for (let triesLeft = 5; ; triesLeft--)
    try {
      await ask();
      return;
    } catch (error) {
      if (triesLeft === 0 || !(error instanceof pg.DatabaseError) || error.code !== "40P01") throw error;
    }
}
