// Request bodies: JSON (or, for OAuth, a form) from whole, bounded bytes, or nothing at all. The framework's own parsers
// are gone. A route that takes no body does not care for one; an empty body is none, whatever its type says.
import type { FastifyRequest } from "fastify";
import type { App } from "./app.ts";
import { BrokerError } from "../domain/errors.ts";
import { parseForm, parseJson } from "./parsing.ts";
import { stateOf } from "./request-state.ts";

type Done = (error: Error | null, body?: unknown) => void;
/** With `parseAs: "buffer"` a body always is one. */
type Bytes = string | Buffer;
type Parse = (request: FastifyRequest, bytes: Bytes, done: Done) => void;

/** 256 KiB. */
export const BODY_BYTES_MAX = 262_144;

/** Leaves `app` with these parsers and no other. */
export function setBodyParsers(app: App): void {
  const options = { parseAs: "buffer" } as const;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", options, parseBody);
  app.addContentTypeParser("application/merge-patch+json", options, parseMergePatch);
  app.addContentTypeParser("application/x-www-form-urlencoded", options, parseFormBody);
  app.addContentTypeParser("*", options, refuseBody);
}

const parseBody: Parse = (request, bytes, done) => {
  if (stateOf(request).route.takesForm) return refuseBody(request, bytes, done);
  parseWith(parseJson, request, bytes, done);
};

const parseFormBody: Parse = (request, bytes, done) => {
  if (!stateOf(request).route.takesForm) return refuseBody(request, bytes, done);
  parseWith(parseForm, request, bytes, done);
};

function parseWith(
  parse: (bytes: Buffer) => unknown,
  request: FastifyRequest,
  bytes: Bytes,
  done: Done,
): void {
  if (bytes.length === 0 || !stateOf(request).route.takesBody) return done(null, undefined);
  try {
    done(null, parse(Buffer.from(bytes)));
  } catch (error) {
    done(error as Error);
  }
}

const parseMergePatch: Parse = (request, bytes, done) => {
  const parse = stateOf(request).route.takesMergePatch ? parseBody : refuseBody;
  parse(request, bytes, done);
};

const refuseBody: Parse = (request, bytes, done) => {
  const { takesBody, takesForm } = stateOf(request).route;
  if (bytes.length === 0 || !takesBody) return done(null, undefined);
  const wanted = takesForm ? "application/x-www-form-urlencoded" : "application/json";
  done(new BrokerError("unsupported_media_type", `The body is to be ${wanted}.`));
};
