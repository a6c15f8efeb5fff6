// Google Cloud's Secret Manager behind the port of manager-ports.ts. What it reads of ours it reads by number: only that
// is consistent at once, while `latest` may lag. It never makes an error to find out what is there, for each costs
// milliseconds of this process's own time. No value is in what it throws, and it logs nothing.
import { BrokerError, notFound } from "../domain/errors.ts";
import {
  type CloudManager,
  LATEST,
  type Located,
  type Read,
  type SecretAddress,
} from "../domain/manager-ports.ts";
import { type GcpSecretOptions, createGcpApi } from "./gcp-api.ts";
import { type GcpClientOptions, type GcpPlaces, openGcpPlaces } from "./gcp-client.ts";
import { type SecretName, isNumber, isProject, parseSecret } from "./gcp-names.ts";
import { createGcpWrites } from "./gcp-writes.ts";
import type { Budget } from "./manager-calls.ts";
import { ManagerCallError, failureError, failureOf } from "./manager-failures.ts";
import { createSingleFlight } from "./single-flight.ts";

export type GcpOptions = GcpClientOptions &
  GcpSecretOptions & {
    /** Null: the project of the credentials. */
    readonly project: string | null;
    /** Where the broker's own secrets are regional; null: they are global. */
    readonly location: string | null;
    /** What the names of the broker's own secrets start with, before a dash. */
    readonly prefix: string;
  };

const NO_PROJECT =
  "Google Cloud has no project: set COFFER_GCP_PROJECT, or give the broker credentials that belong to one.";
const NO_NAMES =
  "COFFER_GCP_PROJECT or COFFER_GCP_LOCATION is none that Google Cloud could have: a project's id or number, a region.";
const NO_CREDENTIALS =
  "Google Cloud gives no credentials: Application Default Credentials (GOOGLE_APPLICATION_CREDENTIALS, a workload identity, the service account of the machine) has none that work.";
const BAD_CREDENTIALS =
  "Google Cloud does not take the broker's credentials: they are wrong, expired or revoked.";
const NO_PERMISSION =
  "Google Cloud does not permit the broker to use its secrets, or has no such project: its service account needs the roles in docs/managers.md.";

/** How long a start waits for Google's library to look for credentials: on a machine without, it asks the network. */
const START_MS = 4_000;

/** Loads the SDK and looks for credentials. It does not fail: what is missing is what `check` says. */
export async function createGcpManager(options: GcpOptions): Promise<CloudManager> {
  const { location, prefix } = options;
  const places = await openGcpPlaces(options);
  await within(START_MS, places.ready(location)).catch(() => {});
  let project = options.project ?? (await projectOf(places));
  const api = createGcpApi(places, options);
  const flights = createSingleFlight<Read>();
  const writes = createGcpWrites(api, readOne);
  const start = (lane?: string): Budget => places.at(location).calls.budget(undefined, lane);
  function own(id: string): SecretAddress {
    if (project === null) throw new BrokerError("manager_failed", NO_PROJECT);
    const place = location === null ? "" : `/locations/${location}`;
    return { resource: `projects/${project}${place}/secrets/${prefix}-${id}` };
  }

  /** One version of ours or of another's; a failure is part of the answer. */
  async function readOne(name: SecretName, version: string, budget: Budget): Promise<Read> {
    try {
      const { number, text } = await api.access(name, version, budget);
      if (text !== null) return { kind: "text", text, version_id: number };
      return failed(failureError("AccessSecretVersion", "read", { failure: "rejected", name: "NoText" }));
    } catch (error) {
      if (error instanceof BrokerError) return failed(error);
      throw error;
    }
  }

  /** Whoever asks for the same version meanwhile gets the same answer. */
  async function read(wanted: Located, budget: Budget): Promise<Read> {
    const name = parseSecret(wanted);
    const { version_id } = wanted;
    if (name === null || !(version_id === LATEST || isNumber(version_id)))
      return failed(failureError("AccessSecretVersion", "read", { failure: "absent", name: "NoSuchName" }));
    return flights.run(`${name.resource}/versions/${version_id}`, () => readOne(name, version_id, budget));
  }

  return {
    name: "gcp",
    // No limit is documented, neither to the versions of a secret nor to those that are enabled:
    // https://cloud.google.com/secret-manager/quotas
    versionsMax: Number.MAX_SAFE_INTEGER,
    newestIsLast: true,

    async check() {
      project ??= await projectOf(places);
      const name = parseSecret(own("coffer-check"));
      if (name === null) throw new BrokerError("manager_failed", NO_NAMES);
      try {
        await api.annotations(name, "read", start());
      } catch (error) {
        // There need be no such secret: the answer proves all there is to prove.
        if (failureOf(error) !== "absent") throw advise(error, project);
      }
    },

    addressOf: own,

    // Whatever the project: a number and an id are the same project, and no pattern tells that they are.
    isOwn: (address) => parseSecret(address)?.id.startsWith(`${prefix}-`) ?? false,

    async ensure(_id, address, text, tags) {
      try {
        return await writes.ensure(named(address), text, tags, start());
      } catch (error) {
        if (error instanceof BrokerError) return failed(error);
        throw error;
      }
    },

    async write(version) {
      return { version_id: await writes.write(named(version.address), version, start()) };
    },

    async read(wanted, lane) {
      const budget = start(lane);
      return Promise.all(wanted.map((one) => read(one, budget)));
    },

    reconcile: (address, keep, _current, gone) => writes.reconcile(named(address), keep, gone, start()),

    async canonical(address) {
      const name = parseSecret(address);
      if (name === null) throw notFound("This is no full name of a secret in Secret Manager.");
      return { resource: name.resource };
    },

    close: () => places.close(),
  };
}

/** @throws BrokerError for an address that cannot be one of Secret Manager's: it is never sent */
function named(address: SecretAddress): SecretName {
  const name = parseSecret(address);
  if (name === null)
    throw new BrokerError("manager_failed", "This is no name of a secret in Secret Manager.");
  return name;
}

/** A version that is disabled or destroyed is absent too: both are told by one code, and it is not given out. */
function failed(error: BrokerError): Read {
  const failure = failureOf(error);
  return { kind: "failed", absent: failure === "absent" || failure === "disabled", error };
}

async function projectOf(places: GcpPlaces): Promise<string | null> {
  const found = await within(START_MS, places.project()).catch(() => null);
  return found !== null && isProject(found) ? found : null;
}

function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error("no answer in time")), milliseconds);
  return Promise.race([work, promise]).finally(() => clearTimeout(timer));
}

/** The failure of a check, worded for the operator. */
function advise(error: unknown, project: string | null): unknown {
  if (!(error instanceof BrokerError && error.cause instanceof ManagerCallError)) return error;
  const { failure, facts } = error.cause;
  const words = new Map([
    ["CredentialsError", NO_CREDENTIALS],
    ["UNAUTHENTICATED", BAD_CREDENTIALS],
    ["SERVICE_DISABLED", `The Secret Manager API is not enabled in the Google Cloud project ${project}.`],
    ["INVALID_ARGUMENT", `Secret Manager does not take the project ${project}, or the location, for one.`],
  ]);
  const detail = words.get(facts.name) ?? `${NO_PERMISSION} The project is ${project}.`;
  const isTheirs = failure === "denied" || facts.name === "INVALID_ARGUMENT";
  return isTheirs ? new BrokerError("manager_failed", detail, {}, error.cause) : error;
}
