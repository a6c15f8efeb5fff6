// The operations of Secret Manager that the broker uses, each as one call with its retries. Whatever carries a payload
// carries its checksum, both ways, for the SDK neither sends nor checks one. Of an answer only what is looked at here
// goes on. `add` is the one that is not as good twice as once: Secret Manager knows no token to tell a repeated call by.
import type { SecretTags } from "../domain/manager-ports.ts";
import { crc32c } from "./crc32c.ts";
import type { GcpPlaces, Request } from "./gcp-client.ts";
import { AnswerError, ChecksumError, classifyAccess, classifyGcp } from "./gcp-errors.ts";
import { type SecretName, annotationsOf, labelsOf, numberOf } from "./gcp-names.ts";
import type { Budget, Classify } from "./manager-calls.ts";
import type { OperationKind } from "./manager-failures.ts";

export type GcpSecretOptions = {
  /** Where a global secret's replicas lie; empty: wherever Google sees fit. */
  readonly replication: readonly string[];
  /** A key of Cloud KMS to seal under, in place of Google's own: its resource name. */
  readonly kmsKey: string | null;
};

export type VersionState = "enabled" | "disabled" | "destroyed";
export type Listed = { readonly number: string; readonly state: VersionState };
/** `text` is null for bytes that are no UTF-8. */
export type Accessed = { readonly number: string; readonly text: string | null };

type Message = Readonly<Record<string, unknown>>;
type Checked<T> = (answer: Message) => T;

/** One list's page at the most; the server takes up to 25,000. */
const PAGE_SIZE = 1_000;
// Without `ignoreBOM` a value that starts with U+FEFF would lose it.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const STATES: Readonly<Record<string, VersionState>> = {
  ENABLED: "enabled",
  DISABLED: "disabled",
  DESTROYED: "destroyed",
};

export type GcpApi = ReturnType<typeof createGcpApi>;

export function createGcpApi(places: GcpPlaces, { replication, kmsKey }: GcpSecretOptions) {
  type How = {
    readonly kind: OperationKind;
    readonly budget: Budget;
    readonly idempotent?: boolean;
    readonly classify?: Classify;
  };

  /** `check` makes of the answer what is asked for, or throws: an answer that fails it is one that fails. */
  function call<T>(
    operation: string,
    { location }: SecretName,
    request: Request,
    check: (answer: unknown, next: object | null) => T,
    { kind, budget, idempotent = true, classify = classifyGcp }: How,
  ): Promise<T> {
    const place = places.at(location);
    return place.calls.run(
      operation,
      async (signal, milliseconds) => {
        const { answer, next } = await place.send(request, signal, milliseconds);
        return check(answer, next);
      },
      classify,
      { idempotent, kind, budget },
    );
  }

  const message =
    <T>(check: Checked<T>) =>
    (answer: unknown): T =>
      check((answer ?? {}) as Message);

  const encryption = kmsKey === null ? {} : { customerManagedEncryption: { kmsKeyName: kmsKey } };

  /** A regional secret is where it is, and has its key for itself; a global one has it for each replica. */
  function policyOf({ location }: SecretName) {
    if (location !== null) return encryption;
    const replicas = replication.map((each) => ({ location: each, ...encryption }));
    return { replication: replicas.length === 0 ? { automatic: encryption } : { userManaged: { replicas } } };
  }

  return {
    /** @throws BrokerError of the class `exists` when the name is taken, by whomever */
    create(name: SecretName, tags: SecretTags, budget: Budget): Promise<void> {
      // No `versionDestroyTtl`: to destroy means now.
      const secret = { ...policyOf(name), labels: labelsOf(tags), annotations: annotationsOf(tags, name) };
      return call(
        "CreateSecret",
        name,
        {
          method: "createSecret",
          message: { parent: name.parent, secretId: name.id, secret },
          routing: ["parent", name.parent],
        },
        () => undefined,
        { kind: "write", budget },
      );
    },

    /** The annotations of a secret that is there. */
    annotations(
      name: SecretName,
      kind: OperationKind,
      budget: Budget,
    ): Promise<Readonly<Record<string, string>>> {
      return call(
        "GetSecret",
        name,
        { method: "getSecret", message: { name: name.resource }, routing: ["name", name.resource] },
        message(({ annotations }) => (annotations ?? {}) as Readonly<Record<string, string>>),
        { kind, budget },
      );
    },

    /**
     * Adds a version; answers its number.
     * @throws BrokerError of the class `away` when nobody knows whether it was added
     */
    add(name: SecretName, data: Uint8Array, budget: Budget): Promise<string> {
      const payload = { data, dataCrc32c: crc32c(data) };
      return call(
        "AddSecretVersion",
        name,
        {
          method: "addSecretVersion",
          message: { parent: name.resource, payload },
          routing: ["parent", name.resource],
        },
        message((version) => {
          const number = numberOf(version["name"]);
          if (number === null || version["state"] !== "ENABLED")
            throw new AnswerError("no version was added");
          return number;
        }),
        { kind: "write", budget, idempotent: false },
      );
    },

    /** @throws BrokerError of the class `absent`, `disabled` (destroyed too), `checksum` or another */
    access(name: SecretName, version: string, budget: Budget): Promise<Accessed> {
      const full = `${name.resource}/versions/${version}`;
      return call(
        "AccessSecretVersion",
        name,
        { method: "accessSecretVersion", message: { name: full }, routing: ["name", full] },
        message(accessed),
        { kind: "read", budget, classify: classifyAccess },
      );
    },

    /** All versions there are, in no order; the list may lag behind. */
    async versions(name: SecretName, kind: OperationKind, budget: Budget): Promise<readonly Listed[]> {
      const found: Listed[] = [];
      let page: object | null = { parent: name.resource, pageSize: PAGE_SIZE };
      while (page !== null) {
        const request: Request = {
          method: "listSecretVersions",
          message: page,
          routing: ["parent", name.resource],
        };
        page = await call<object | null>(
          "ListSecretVersions",
          name,
          request,
          (answer, next) => {
            found.push(...(Array.isArray(answer) ? (answer as readonly Message[]) : []).map(listed));
            return next;
          },
          { kind, budget },
        );
      }
      return found;
    },

    /** The state of one version by its number. */
    state(name: SecretName, version: string, budget: Budget): Promise<VersionState> {
      return versionCall("GetSecretVersion", "getSecretVersion", name, version, budget);
    },

    /** The state that it is in then: under a TTL that somebody has set, a destroyed version is only disabled until it ends. */
    destroy(name: SecretName, version: string, budget: Budget): Promise<VersionState> {
      return versionCall("DestroySecretVersion", "destroySecretVersion", name, version, budget);
    },

    remove(name: SecretName, budget: Budget): Promise<void> {
      return call(
        "DeleteSecret",
        name,
        { method: "deleteSecret", message: { name: name.resource }, routing: ["name", name.resource] },
        () => undefined,
        { kind: "delete", budget },
      );
    },
  };

  function versionCall(
    operation: string,
    method: string,
    name: SecretName,
    version: string,
    budget: Budget,
  ): Promise<VersionState> {
    const full = `${name.resource}/versions/${version}`;
    return call(
      operation,
      name,
      { method, message: { name: full }, routing: ["name", full] },
      message((answer) => listed(answer).state),
      { kind: "delete", budget },
    );
  }
}

function listed({ name, state }: Message): Listed {
  const number = numberOf(name);
  const known = typeof state === "string" ? STATES[state] : undefined;
  if (number === null || known === undefined) throw new AnswerError("a version of no known number or state");
  return { number, state: known };
}

/** The payload, if it arrived as it was stored. Its bytes are zeroed here. */
function accessed({ name, payload }: Message): Accessed {
  const number = numberOf(name);
  const { data, dataCrc32c } = (payload ?? {}) as Message;
  if (number === null || !(data instanceof Uint8Array)) throw new AnswerError("a version without a payload");
  try {
    // An int64, which the SDK makes a string of. One that is not there is as good as a wrong one.
    if (String(dataCrc32c) !== String(crc32c(data))) throw new ChecksumError("the payload was damaged");
    return { number, text: decoded(data) };
  } finally {
    data.fill(0);
  }
}

function decoded(data: Uint8Array): string | null {
  try {
    return utf8.decode(data);
  } catch {
    return null;
  }
}
