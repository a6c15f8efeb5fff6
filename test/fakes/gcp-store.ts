// What Secret Manager keeps and the rules it keeps it by, as its protos and documents state them: names, alphabets,
// states, etags, checksums, sizes. Synchronous, so that an operation is applied whole or not at all. It says no with a
// GrpcStatus. Secrets are kept under the project's id and answered under its number, as the real one does.
import { crc32c } from "../../src/sealing/crc32c.ts";

export type State = "ENABLED" | "DISABLED" | "DESTROYED";

export type StoredVersion = {
  readonly number: number;
  state: State;
  /** Empty once destroyed. */
  data: Buffer;
  readonly crc32c: number;
  readonly clientSentChecksum: boolean;
  readonly createdAt: Date;
  destroyedAt: Date | null;
  destroyAt: Date | null;
  etag: string;
};

export type StoredSecret = {
  readonly name: string;
  labels: Record<string, string>;
  annotations: Record<string, string>;
  versionAliases: Record<string, string>;
  /** As it was sent: which of the two policies, its replicas and its keys. */
  readonly replication: unknown;
  readonly customerManagedEncryption: unknown;
  destroyTtlSeconds: number;
  readonly createdAt: Date;
  etag: string;
  readonly versions: StoredVersion[];
};

export class GrpcStatus extends Error {
  readonly code: number;
  readonly reason: string | undefined;

  constructor(code: number, message: string, reason?: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

export const CODES = {
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  UNAUTHENTICATED: 16,
} as const;

const BYTES_MAX = 65_536;
const PARENT = /^projects\/([^/]+)(\/locations\/[^/]+)?$/;
const SECRET = /^projects\/([^/]+)((?:\/locations\/[^/]+)?\/secrets\/[^/]+)$/;
const VERSION = /^(projects\/.+\/secrets\/[^/]+)\/versions\/([^/]+)$/;
const SECRET_ID = /^[A-Za-z0-9_-]{1,255}$/;
const LABEL_KEY = /^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$/u;
const LABEL_VALUE = /^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$/u;
const ANNOTATION_KEY = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;

export const invalid = (message: string): GrpcStatus => new GrpcStatus(CODES.INVALID_ARGUMENT, message);

function checkLabels(labels: Record<string, string>): void {
  const entries = Object.entries(labels);
  const wrong = entries.find(([key, value]) => !LABEL_KEY.test(key) || !LABEL_VALUE.test(value));
  if (entries.length > 64 || wrong !== undefined) throw invalid(`label ${wrong?.[0]} is not valid`);
}

function checkAnnotations(annotations: Record<string, string>): void {
  const entries = Object.entries(annotations);
  const wrong = entries.find(([key]) => !ANNOTATION_KEY.test(key));
  if (wrong !== undefined) throw invalid(`annotation ${wrong[0]} is not valid`);
  const bytes = entries.reduce((sum, [key, value]) => sum + Buffer.byteLength(key + value), 0);
  if (bytes >= 16_384) throw invalid("annotations are larger than 16 KiB");
}

export type NewSecret = Pick<
  StoredSecret,
  "labels" | "annotations" | "replication" | "customerManagedEncryption" | "destroyTtlSeconds"
>;

export type SecretChange = Partial<Pick<StoredSecret, "labels" | "annotations" | "versionAliases">> & {
  readonly destroyTtlSeconds?: number;
};

export function createStore(now: () => Date = () => new Date()) {
  const secrets = new Map<string, StoredSecret>();
  const numbers = new Map<string, string>();
  let etags = 0;
  const etag = (): string => `"${(etags += 1).toString(16).padStart(14, "0")}"`;

  function numberOf(project: string): string {
    if (/^\d+$/.test(project)) return project;
    const number = numbers.get(project) ?? String(100_000_000_001 + numbers.size);
    numbers.set(project, number);
    return number;
  }

  /** By id, however it was asked for. */
  const projectId = (project: string): string =>
    [...numbers].find(([, number]) => number === project)?.[0] ?? project;

  function secretName(name: string): string {
    const [, project, rest] = SECRET.exec(name) ?? [];
    if (project === undefined || rest === undefined) throw invalid(`"${name}" is no name of a secret`);
    return `projects/${projectId(project)}${rest}`;
  }

  function secret(name: string): StoredSecret {
    const found = secrets.get(secretName(name));
    if (found === undefined)
      throw new GrpcStatus(CODES.NOT_FOUND, `Secret [${name}] not found or has no versions.`);
    return found;
  }

  /** `latest` is the newest, whatever its state; `among` narrows what may be seen. */
  function version(
    name: string,
    among: (of: StoredSecret) => readonly StoredVersion[] = (of) => of.versions,
  ) {
    const [, parent = "", word = ""] = VERSION.exec(name) ?? [];
    if (word === "") throw invalid(`"${name}" is no name of a version`);
    const of = secret(parent);
    const found =
      word === "latest"
        ? among(of).at(-1)
        : of.versions.find(({ number }) => String(number) === (of.versionAliases[word] ?? word));
    if (found === undefined) throw new GrpcStatus(CODES.NOT_FOUND, `Secret Version [${name}] not found.`);
    return { of, version: found };
  }

  function mustBeState(name: string, { state }: StoredVersion, allowed: readonly State[]): void {
    if (!allowed.includes(state))
      throw new GrpcStatus(CODES.FAILED_PRECONDITION, `Secret Version [${name}] is in ${state} state.`);
  }

  function mustMatch(etagOfCaller: string, { etag: current }: { readonly etag: string }): void {
    if (etagOfCaller !== "" && etagOfCaller !== current)
      throw new GrpcStatus(CODES.ABORTED, "The etag does not match the resource's current one.");
  }

  function setState(name: string, etagOfCaller: string, to: State, from: readonly State[]) {
    const found = version(name);
    mustMatch(etagOfCaller, found.version);
    mustBeState(name, found.version, from);
    found.version.state = to;
    found.version.etag = etag();
    return found;
  }

  return {
    secrets,
    secret,
    version,
    mustBeState,

    /** The name as the real one gives it back: with the project's number. */
    published: (name: string): string =>
      name.replace(/^projects\/([^/]+)/, (_, project: string) => `projects/${numberOf(project)}`),

    parent(name: string): string {
      const [, project, location = ""] = PARENT.exec(name) ?? [];
      if (project === undefined) throw invalid(`"${name}" is no parent`);
      numberOf(project);
      return `projects/${projectId(project)}${location}`;
    },

    create(parent: string, id: string, made: NewSecret): StoredSecret {
      if (!SECRET_ID.test(id)) throw invalid("the secret id is not valid");
      const isRegional = parent.includes("/locations/");
      if (!isRegional && made.replication === null) throw invalid("a replication policy is required");
      if (isRegional && made.replication !== null) throw invalid("a regional secret has no replication");
      checkLabels(made.labels);
      checkAnnotations(made.annotations);
      const name = `${parent}/secrets/${id}`;
      if (secrets.has(name)) throw new GrpcStatus(CODES.ALREADY_EXISTS, `Secret [${name}] already exists.`);
      const fresh = { ...made, name, versionAliases: {}, createdAt: now(), etag: etag(), versions: [] };
      secrets.set(name, fresh);
      return fresh;
    },

    update(name: string, etagOfCaller: string, change: SecretChange): StoredSecret {
      const found = secret(name);
      mustMatch(etagOfCaller, found);
      checkLabels(change.labels ?? {});
      checkAnnotations(change.annotations ?? {});
      return Object.assign(found, change, { etag: etag() });
    },

    remove(name: string, etagOfCaller: string): void {
      const found = secret(name);
      mustMatch(etagOfCaller, found);
      secrets.delete(found.name);
    },

    add(parent: string, data: Buffer, sum: string | undefined) {
      const of = secret(parent);
      if (data.length === 0) throw invalid("The payload is empty.");
      if (data.length > BYTES_MAX) throw invalid("The payload is larger than 65536 bytes.");
      const real = crc32c(data);
      if (sum !== undefined && sum !== String(real))
        throw invalid("The checksum data_crc32c does not match the payload.");
      const number = (of.versions.at(-1)?.number ?? 0) + 1;
      const added: StoredVersion = {
        number,
        state: "ENABLED",
        data: Buffer.from(data),
        crc32c: real,
        clientSentChecksum: sum !== undefined,
        createdAt: now(),
        destroyedAt: null,
        destroyAt: null,
        etag: etag(),
      };
      of.versions.push(added);
      return { of, version: added };
    },

    enable: (name: string, etag: string) => setState(name, etag, "ENABLED", ["ENABLED", "DISABLED"]),
    disable: (name: string, etag: string) => setState(name, etag, "DISABLED", ["ENABLED", "DISABLED"]),

    /** Under a TTL for destroyed versions it is only disabled for now. */
    destroy(name: string, etagOfCaller: string) {
      const { of } = version(name);
      const { destroyTtlSeconds } = of;
      const to = destroyTtlSeconds > 0 ? "DISABLED" : "DESTROYED";
      const found = setState(name, etagOfCaller, to, ["ENABLED", "DISABLED"]);
      if (destroyTtlSeconds > 0)
        found.version.destroyAt = new Date(now().getTime() + destroyTtlSeconds * 1_000);
      else {
        found.version.destroyedAt = now();
        found.version.data = Buffer.alloc(0);
      }
      return found;
    },
  };
}

export type Store = ReturnType<typeof createStore>;
