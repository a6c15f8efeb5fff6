// The names of Secret Manager's resources, and what a secret of ours says of itself there. A name is judged by its
// grammar alone, before it is sent anywhere: a location becomes part of a host's name. In answers the project is its
// number, whatever it was asked by, so that of a version's name in an answer only the last part is ever looked at.
import type { SecretAddress, SecretTags } from "../domain/manager-ports.ts";

export type SecretName = {
  /** `projects/P/secrets/S` or `projects/P/locations/L/secrets/S`. */
  readonly resource: string;
  /** The resource that it lies in. */
  readonly parent: string;
  /** Null for a global secret. */
  readonly location: string | null;
  readonly id: string;
};

/** A project's id (with the domain that some old ones have) or number. */
const PROJECT = "(?:[a-z][a-z0-9.-]{0,62}:)?[a-z][a-z0-9-]{4,28}[a-z0-9]|[1-9][0-9]{0,18}";
const LOCATION = "[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?";
const SECRET = new RegExp(
  `^(projects/(?:${PROJECT})(?:/locations/(${LOCATION}))?)/secrets/([A-Za-z0-9_-]{1,255})$`,
);
const WHOLE_PROJECT = new RegExp(`^(?:${PROJECT})$`);
const NUMBER = /^[1-9][0-9]{0,18}$/;

/** As the protos state them. An owner's type and id fit; what does not is left out. */
const LABEL_VALUE = /^[a-z0-9_-]{1,63}$/;
const ANNOTATION_KEY = /^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
const ANNOTATIONS_BYTES_MAX = 12_288;
/** The annotation by which a secret is known to be of a broker's making, and for which id. */
const ID_ANNOTATION = "coffer-id";

/** Null for an address that is none of Secret Manager's. */
export function parseSecret(address: SecretAddress): SecretName | null {
  const resource = "resource" in address ? address.resource : "";
  const [, parent, location = null, id] = SECRET.exec(resource) ?? [];
  return parent === undefined || id === undefined ? null : { resource, parent, location, id };
}

export const isProject = (text: string): boolean => WHOLE_PROJECT.test(text);

/** Versions are counted from 1. */
export const isNumber = (versionId: string): boolean => NUMBER.test(versionId);

/** The number in a version's name; null when there is none. */
export function numberOf(name: unknown): string | null {
  const number = typeof name === "string" ? (name.split("/").at(-1) ?? "") : "";
  return NUMBER.test(number) ? number : null;
}

/** Orders versions by age. Numbers may pass what a double holds exactly. */
export const byNumber = (one: string, other: string): number => Number(BigInt(one) - BigInt(other));

/** The highest of these numbers; 0 where there is none. */
export function newest(numbers: readonly string[]): bigint {
  return numbers
    .filter(isNumber)
    .map(BigInt)
    .reduce((highest, number) => (number > highest ? number : highest), 0n);
}

/** What people filter by in the console, as far as the alphabet of labels allows. */
export function labelsOf({ purpose, owner_type, owner_id }: SecretTags): Record<string, string> {
  const wanted = { coffer: purpose ?? "setting", owner_type, owner_id };
  const fit = Object.entries(wanted).flatMap(([key, value]) =>
    value !== undefined && LABEL_VALUE.test(value) ? [[key, value] as const] : [],
  );
  return Object.fromEntries(fit);
}

/** All tags as they are, as many as have room, and the mark of our own. */
export function annotationsOf(tags: SecretTags, { id }: SecretName): Record<string, string> {
  const annotations: Record<string, string> = { [ID_ANNOTATION]: id };
  let room = ANNOTATIONS_BYTES_MAX;
  for (const [key, value] of Object.entries(tags)) {
    room -= Buffer.byteLength(key) + Buffer.byteLength(value);
    if (room >= 0 && ANNOTATION_KEY.test(key) && key !== ID_ANNOTATION) annotations[key] = value;
  }
  return annotations;
}

/** True for the annotations of a secret that a broker made under this name. */
export const isOurs = (annotations: Readonly<Record<string, string>>, { id }: SecretName): boolean =>
  annotations[ID_ANNOTATION] === id;
