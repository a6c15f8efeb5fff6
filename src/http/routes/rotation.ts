// Rotating a setting: a new version from a generator or from the caller, at once or once a hook has confirmed.
import type { Static } from "typebox";
import { parseOwner } from "../../domain/address.ts";
import type { Broker } from "../../domain/broker.ts";
import { badInput } from "../../domain/errors.ts";
import type { Generator } from "../../domain/lifecycle-ports.ts";
import type { RotateInput } from "../../domain/rotate.ts";
import type { App } from "../app.ts";
import { callerOf } from "../authenticate.ts";
import { idOf, preconditionsOf } from "../input.ts";
import { problems } from "../problem.ts";
import { ETAG, answer } from "../schemas/kit.ts";
import * as S from "../schemas/rotation.ts";
import { AddressQuery, WriteHeaders } from "../schemas/settings-input.ts";

const tags = ["Lifecycle"];
const DAY_SECONDS = 86_400;
const HOUR_SECONDS = 3_600;
const PASSWORD_LENGTH = 32;
const RANDOM_BYTES = 32;
const RSA_BITS = 3_072;

export function rotationRoutes(app: App, broker: Broker): void {
  app.post(
    "/settings/rotate",
    {
      config: { action: "write" },
      schema: {
        operationId: "rotateSetting",
        tags,
        summary: "Rotate a setting",
        description:
          "Makes a new version. The old one stays readable by its number; with `destroy_old` it is destroyed once nobody " +
          "has read it for a whole overlap. With `hook` the new version is pending until the hook confirms, and is " +
          "destroyed when it does not.",
        querystring: AddressQuery,
        headers: WriteHeaders,
        body: S.RotateBody,
        response: {
          200: answer("The rotation has begun.", S.RotateAnswer, { headers: ETAG }),
          ...problems(404, 409, 412, 413, 415, 422, 502),
        },
      },
    },
    async (request, reply) => {
      const { owner_type, owner_id, path } = request.query;
      const { overlap_seconds, destroy_old, hook } = request.body;
      const answered = await broker.rotate(callerOf(request), {
        owner: parseOwner(owner_type, owner_id),
        path,
        ...preconditionsOf(request.headers),
        source: sourceOf(request.body),
        overlap_seconds: overlap_seconds ?? DAY_SECONDS,
        destroy_old: destroy_old ?? false,
        hook:
          hook === undefined
            ? null
            : {
                webhook_id: idOf(hook.webhook_id),
                confirm_within_seconds: hook.confirm_within_seconds ?? HOUR_SECONDS,
              },
      });
      reply.header("etag", answered.setting.etag);
      return answered;
    },
  );

  app.get(
    "/settings/rotations",
    {
      config: { action: "list" },
      schema: {
        operationId: "listRotations",
        tags,
        summary: "List a setting's rotations",
        description: "Newest first, with the public keys of generated key pairs.",
        querystring: AddressQuery,
        response: { 200: answer("The rotations.", S.RotationList), ...problems(404, 422, 502) },
      },
    },
    async (request) => {
      const { owner_type, owner_id, path } = request.query;
      return broker.rotations(callerOf(request), parseOwner(owner_type, owner_id), path);
    },
  );
}

type Body = Static<typeof S.RotateBody>;

function sourceOf({ generator, value }: Body): RotateInput["source"] {
  if ((generator === undefined) === (value === undefined))
    throw badInput("invalid_request", "body", "/generator", "Give exactly one of `generator` and `value`.");
  if (generator === undefined) return { kind: "value", value };
  return { kind: "generator", generator: generatorOf(generator) };
}

/** What each kind takes beside its name. */
const TAKES: Readonly<Record<Generator["kind"], readonly string[]>> = {
  password: ["length", "classes"],
  hex: ["bytes"],
  base64: ["bytes"],
  uuid: [],
  ed25519: [],
  ecdsa: ["curve"],
  rsa: ["bits"],
};

function generatorOf({ kind, ...given }: NonNullable<Body["generator"]>): Generator {
  for (const name of Object.keys(given))
    if (!TAKES[kind].includes(name))
      throw badInput("invalid_value", "body", `/generator/${name}`, `${name} is not for the kind ${kind}.`);
  switch (kind) {
    case "password":
      return { kind, length: given.length ?? PASSWORD_LENGTH, classes: given.classes ?? S.CLASSES };
    case "hex":
    case "base64":
      return { kind, bytes: given.bytes ?? RANDOM_BYTES };
    case "uuid":
    case "ed25519":
      return { kind };
    case "ecdsa":
      return { kind, curve: given.curve ?? "P-256" };
    case "rsa":
      return { kind, bits: given.bits ?? RSA_BITS };
  }
}
