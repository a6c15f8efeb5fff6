// The methods of SecretManagerService over the fake's store: messages in, messages out, as the protos name them. Each is
// applied at once. Lists and `latest` can be made to lag, as the documents say they may, while access by number never does.
import {
  CODES,
  type StoredSecret,
  type StoredVersion,
  GrpcStatus,
  type Store,
  invalid,
} from "./gcp-store.ts";

type Message = Readonly<Record<string, unknown>>;
export type Method = (request: Message) => Message;

const PAGE_MAX = 25_000;

function text(message: Message, key: string): string {
  const value = message[key];
  return typeof value === "string" ? value : "";
}

const part = (message: Message, key: string): Message => (message[key] ?? {}) as Message;
const texts = (message: Message, key: string): Record<string, string> => ({
  ...(part(message, key) as Record<string, string>),
});
const time = (at: Date | null) =>
  at === null ? null : { seconds: Math.floor(at.getTime() / 1_000), nanos: 0 };
const seconds = (duration: unknown): number =>
  Number((duration as { seconds?: unknown } | null)?.seconds ?? 0);

function secretMessage(store: Store, secret: StoredSecret): Message {
  const { labels, annotations, versionAliases, replication, customerManagedEncryption, etag } = secret;
  return {
    name: store.published(secret.name),
    createTime: time(secret.createdAt),
    labels,
    annotations,
    versionAliases,
    replication,
    customerManagedEncryption,
    etag,
    ...(secret.destroyTtlSeconds > 0 && { versionDestroyTtl: { seconds: secret.destroyTtlSeconds } }),
  };
}

const versionName = (store: Store, of: StoredSecret, { number }: StoredVersion): string =>
  `${store.published(of.name)}/versions/${number}`;

function versionMessage(
  store: Store,
  { of, version }: { of: StoredSecret; version: StoredVersion },
): Message {
  return {
    name: versionName(store, of, version),
    createTime: time(version.createdAt),
    destroyTime: time(version.destroyedAt),
    scheduledDestroyTime: time(version.destroyAt),
    state: version.state,
    etag: version.etag,
    clientSpecifiedPayloadChecksum: version.clientSentChecksum,
  };
}

/** One page, and the token of the next: where it starts. */
function page<Item>(items: readonly Item[], request: Message, pageMax: number) {
  const token = text(request, "pageToken");
  const start = token === "" ? 0 : Number(Buffer.from(token, "base64url").toString());
  if (!Number.isInteger(start) || start < 0) throw invalid("the page token is not valid");
  const asked = Number(request["pageSize"] ?? 0);
  if (asked < 0) throw invalid("the page size is negative");
  const size = Math.min(asked === 0 ? pageMax : asked, pageMax, PAGE_MAX);
  const end = start + size;
  const nextPageToken = end < items.length ? Buffer.from(String(end)).toString("base64url") : "";
  return { items: items.slice(start, end), nextPageToken, totalSize: items.length };
}

function mustHaveNoFilter(request: Message): void {
  if (text(request, "filter") !== "") throw new GrpcStatus(CODES.UNIMPLEMENTED, "the fake has no filters");
}

export type MethodOptions = {
  /** No page is longer, whatever is asked for. */
  readonly pageMax: number;
  /** How many of the newest versions of a secret lists and `latest` do not see yet. */
  readonly hidden: (secret: StoredSecret) => number;
  /** True for an answer whose payload is to arrive damaged. */
  readonly damages: () => boolean;
};

export function createMethods(store: Store, { pageMax, hidden, damages }: MethodOptions) {
  const seen = (of: StoredSecret): readonly StoredVersion[] =>
    of.versions.slice(0, Math.max(0, of.versions.length - hidden(of)));

  const methods: Readonly<Record<string, Method>> = {
    CreateSecret(request) {
      const secret = part(request, "secret");
      const made = store.create(store.parent(text(request, "parent")), text(request, "secretId"), {
        labels: texts(secret, "labels"),
        annotations: texts(secret, "annotations"),
        replication: secret["replication"] ?? null,
        customerManagedEncryption: secret["customerManagedEncryption"] ?? null,
        destroyTtlSeconds: seconds(secret["versionDestroyTtl"]),
      });
      return secretMessage(store, made);
    },
    GetSecret: (request) => secretMessage(store, store.secret(text(request, "name"))),
    UpdateSecret(request) {
      const secret = part(request, "secret");
      const paths = (part(request, "updateMask")["paths"] ?? []) as readonly string[];
      if (paths.length === 0) throw invalid("an update mask is required");
      const change: Record<string, unknown> = {};
      for (const path of paths) {
        if (path === "labels") change["labels"] = texts(secret, "labels");
        else if (path === "annotations") change["annotations"] = texts(secret, "annotations");
        else if (path === "version_aliases") change["versionAliases"] = texts(secret, "versionAliases");
        else if (path === "version_destroy_ttl")
          change["destroyTtlSeconds"] = seconds(secret["versionDestroyTtl"]);
        else throw invalid(`"${path}" cannot be updated`);
      }
      return secretMessage(store, store.update(text(secret, "name"), text(secret, "etag"), change));
    },
    DeleteSecret(request) {
      store.remove(text(request, "name"), text(request, "etag"));
      return {};
    },
    ListSecrets(request) {
      mustHaveNoFilter(request);
      const parent = store.parent(text(request, "parent"));
      const under = [...store.secrets.values()].filter(
        ({ name }) => name.slice(0, name.indexOf("/secrets/")) === parent,
      );
      const { items, ...rest } = page(under.toReversed(), request, pageMax);
      return { secrets: items.map((secret) => secretMessage(store, secret)), ...rest };
    },

    AddSecretVersion(request) {
      const payload = part(request, "payload");
      const data = (payload["data"] ?? Buffer.alloc(0)) as Buffer;
      // An int64, which the loader makes a string; not there when the field was not sent.
      const sum = text(payload, "dataCrc32c");
      return versionMessage(store, store.add(text(request, "parent"), data, sum === "" ? undefined : sum));
    },
    AccessSecretVersion(request) {
      const name = text(request, "name");
      const { of, version } = store.version(name, seen);
      store.mustBeState(versionName(store, of, version), version, ["ENABLED"]);
      const data = Buffer.from(version.data);
      if (damages()) data[0] = (data[0] ?? 0) ^ 1;
      return {
        name: versionName(store, of, version),
        payload: { data, dataCrc32c: String(version.crc32c) },
      };
    },
    GetSecretVersion: (request) => versionMessage(store, store.version(text(request, "name"), seen)),
    ListSecretVersions(request) {
      mustHaveNoFilter(request);
      const of = store.secret(text(request, "parent"));
      const { items, ...rest } = page(seen(of).toReversed(), request, pageMax);
      return { versions: items.map((version) => versionMessage(store, { of, version })), ...rest };
    },
    EnableSecretVersion: (request) =>
      versionMessage(store, store.enable(text(request, "name"), text(request, "etag"))),
    DisableSecretVersion: (request) =>
      versionMessage(store, store.disable(text(request, "name"), text(request, "etag"))),
    DestroySecretVersion: (request) =>
      versionMessage(store, store.destroy(text(request, "name"), text(request, "etag"))),
  };
  return methods;
}

/** What the routing header must say of a request: Google's front ends route by it. */
export function routingOf(operation: string, request: Message): string {
  const key = ["CreateSecret", "ListSecrets", "AddSecretVersion", "ListSecretVersions"].includes(operation)
    ? "parent"
    : "name";
  const of = operation === "UpdateSecret" ? part(request, "secret") : request;
  const name = operation === "UpdateSecret" ? "secret.name" : key;
  return `${name}=${encodeURIComponent(text(of, key))}`;
}
