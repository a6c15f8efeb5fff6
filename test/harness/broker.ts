// A whole broker for a test: real HTTP on a free port, a database of its own, and a client that says little.
// `world()` furnishes it: an organization, a project, and people and workers in each role.
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { pino } from "pino";
import { type Service, compose } from "../../src/compose.ts";
import { readConfig } from "../../src/config.ts";
import { createDatabase } from "./postgres.ts";

/** An answer with its body read: parsed when it is JSON, else the text. */
export type Answer = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // Tests reach into bodies of every shape; a wrong reach fails the test.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
};
export type Options = { readonly body?: unknown; readonly headers?: Readonly<Record<string, string>> };
/** One caller: `await api.get("/auth/me")`. */
export type Api = Record<
  "get" | "post" | "put" | "patch" | "delete",
  (path: string, options?: Options) => Promise<Answer>
> & {
  readonly token: string;
};

export type TestBroker = {
  readonly url: string;
  readonly databaseUrl: string;
  readonly home: string;
  readonly masterKey: string;
  readonly service: Service;
  readonly admin: Api;
  /** All that was logged so far. */
  readonly log: () => string;
  as(token: string): Api;
  close(): Promise<void>;
};

export type BrokerOptions = {
  /** Another broker's database and master key: a second replica. */
  readonly beside?: TestBroker;
  readonly environment?: Readonly<Record<string, string>>;
};

export async function startBroker({ beside, environment = {} }: BrokerOptions = {}): Promise<TestBroker> {
  const database = beside === undefined ? await createDatabase() : null;
  const databaseUrl = database?.url ?? beside?.databaseUrl ?? "";
  const masterKey = beside?.masterKey ?? randomBytes(32).toString("hex");
  const home = await mkdtemp(join(tmpdir(), "coffer-home-"));
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const config = readConfig({
    COFFER_HOME: home,
    COFFER_PORT: "0",
    COFFER_LOG_LEVEL: "trace",
    COFFER_RATE_LIMIT: "1000000",
    // A busy machine stops a test process for a second now and then; that is not what most tests are about.
    COFFER_LOOP_DELAY_MAX_MS: "0",
    DATABASE_URL: databaseUrl,
    COFFER_MASTER_KEY: masterKey,
    ...environment,
  });
  const service = await compose(config, pino({ level: config.logLevel }, sink));
  const url = await service.listen();
  const token = beside?.admin.token ?? (await readFile(join(home, "admin.token"), "utf8"));
  return {
    url,
    databaseUrl,
    home,
    masterKey,
    service,
    admin: client(url, token),
    log: () => lines.join(""),
    as: (other) => client(url, other),
    async close() {
      await service.close();
      await rm(home, { recursive: true, force: true });
      await database?.drop();
    },
  };
}

export function client(url: string, token: string): Api {
  const call =
    (method: string) =>
    async (path: string, { body, headers = {} }: Options = {}): Promise<Answer> => {
      const response = await fetch(url + path, {
        method,
        headers: {
          ...(token === "" ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      });
      const text = await response.text();
      const json = /json/.test(response.headers.get("content-type") ?? "");
      return {
        status: response.status,
        headers: response.headers,
        text,
        body: json && text !== "" ? JSON.parse(text) : text,
      };
    };
  return {
    token,
    get: call("GET"),
    post: call("POST"),
    put: call("PUT"),
    patch: call("PATCH"),
    delete: call("DELETE"),
  };
}

/** `/settings?owner_type=…&owner_id=…&path=…` with whatever else is given. */
export function settingsUrl(
  owner: { type: string; id: string },
  path?: string,
  rest: Record<string, string> = {},
  at = "/settings",
) {
  const query = new URLSearchParams({
    owner_type: owner.type,
    owner_id: owner.id,
    ...(path === undefined ? {} : { path }),
    ...rest,
  });
  return `${at}?${query}`;
}

export type World = Awaited<ReturnType<typeof furnish>>;

/** An organization with a project, its owner (a user), and a worker in each role at the project. */
export async function furnish(broker: Pick<TestBroker, "url" | "admin" | "as">) {
  const { admin } = broker;
  const name = `org-${randomBytes(4).toString("hex")}`;
  const enrolled = await made(admin.post("/users", { body: { name: "Olive Owner" } }));
  const ownerToken = await made(
    client(broker.url, "").post("/auth/enrol", { body: { code: enrolled.enrolment_code } }),
  );
  const owner = broker.as(ownerToken.token);
  const organization = await made(admin.post("/organizations", { body: { name, owner_id: enrolled.id } }));
  const project = await made(
    owner.post(`/organizations/${organization.id}/projects`, { body: { name: "training" } }),
  );
  const worker = async (role: string | null) => {
    const account = await made(
      owner.post(`/organizations/${organization.id}/service-accounts`, {
        body: { name: `${role ?? "none"}-${randomBytes(3).toString("hex")}` },
      }),
    );
    if (role !== null)
      await made(owner.put(`/projects/${project.id}/members/${account.id}`, { body: { role } }));
    const token = await made(owner.post("/tokens", { body: { name: "worker", principal_id: account.id } }));
    return { id: account.id as string, api: broker.as(token.token), token_id: token.id as string };
  };
  return {
    organization: { type: "organization", id: organization.id as string, name },
    project: { type: "project", id: project.id as string },
    owner: { id: enrolled.id as string, api: owner },
    reader: await worker("read"),
    writer: await worker("write"),
    keeper: await worker("owner"),
    stranger: await worker(null),
    worker,
  };
}

/** The body of an answer that must be a success. */
export async function made(answer: Promise<Answer>) {
  const { status, body, text } = await answer;
  if (status >= 300) throw new Error(`expected success, got ${status}: ${text}`);
  return body;
}

export const S3 = { access_key_id: "AKIDEXAMPLE", secret_access_key: "wJalrXUtnFEMI" };
export const REGISTRY = { registry: "registry.example.com", username: "robot", password: "p4ss" };
