// Request bodies: JSON (or, for OAuth, a form) from whole, bounded bytes, or nothing at all. The framework's own parsers
// are gone. A route that takes no body does not care for one; an empty body is none, whatever its type says. A body is
// taken as it is: were a coding passed over, whoever looks between us and the client might read another body than we.
import { Readable } from "node:stream";
import type { FastifyRequest, preParsingHookHandler } from "fastify";
import type { App } from "./app.ts";
import { BrokerError } from "../domain/errors.ts";
import { countOf } from "./connection.ts";
import { parseForm, parseJson } from "./parsing.ts";
import { type RouteInfo, stateOf } from "./request-state.ts";

type Done = (error: Error | null, body?: unknown) => void;
/** With `parseAs: "buffer"` a body always is one. */
type Bytes = string | Buffer;
type Parse = (request: FastifyRequest, bytes: Bytes, done: Done) => void;

/** 256 KiB. */
export const BODY_BYTES_MAX = 262_144;

/** The body is well, but not as it is taken here; `accepts` are headers that say how it would be. */
export class NotTaken extends BrokerError {
  readonly accepts: Readonly<Record<string, string>>;

  constructor(detail: string, accepts: NotTaken["accepts"] = {}) {
    super("unsupported_media_type", detail);
    this.accepts = accepts;
  }
}

/** Leaves `app` with these parsers and no other. */
export function setBodyParsers(app: App): void {
  const options = { parseAs: "buffer" } as const;
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", options, parseBody);
  app.addContentTypeParser("application/merge-patch+json", options, parseMergePatch);
  app.addContentTypeParser("application/x-www-form-urlencoded", options, parseFormBody);
  app.addContentTypeParser("*", options, refuseBody);
  app.addHook("onRoute", (route) => {
    if (!["GET", "HEAD"].includes(String(route.method))) route.preParsing = withStream;
  });
}

/** A request that has no body has no stream either that would ever end (connection.ts): this one does. */
const withStream: preParsingHookHandler = (request, _reply, payload, done) =>
  done(null, request.raw.readableEnded ? Readable.from([]) : payload);

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
    assertFramedOnce(request);
    assertNotCoded(request);
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
  const refuse = () => {
    throw otherType(stateOf(request).route);
  };
  parseWith(refuse, request, bytes, done);
};

/** Whoever looks between us and the client might read another body: RFC 9112, section 6.1, and RFC 9110, section 5.3. */
function assertFramedOnce({ headers: { "transfer-encoding": coding = "" }, raw }: FastifyRequest): void {
  if (!/^(?:chunked)?$/i.test(coding))
    throw new BrokerError("invalid_request", "The body is to come in no Transfer-Encoding but chunked.");
  if (countOf(raw.rawHeaders, "content-type") > 1)
    throw new BrokerError("invalid_request", "The request has more than one Content-Type header.");
}

/** RFC 9110, section 12.5.3: Accept-Encoding comes with a 415 for a coding, and with no other. */
function assertNotCoded({ headers: { "content-encoding": coding = "" } }: FastifyRequest): void {
  if (/^(?:identity)?$/i.test(coding)) return;
  throw new NotTaken("The body is to come without a Content-Encoding.", { "accept-encoding": "identity" });
}

function otherType({ takesForm, takesMergePatch }: RouteInfo): NotTaken {
  if (takesForm) return new NotTaken("The body is to be application/x-www-form-urlencoded.");
  if (!takesMergePatch) return new NotTaken("The body is to be application/json.");
  // RFC 5789, section 2.2.
  return new NotTaken("The body is to be application/json or application/merge-patch+json.", {
    "accept-patch": "application/merge-patch+json, application/json",
  });
}

/** What was thrown while the body was on its way, before any parser was asked; undefined for anything else. */
export function bodyFault(thrown: unknown, request: FastifyRequest): BrokerError | undefined {
  // The client left in the middle of its body: that is no fault of ours.
  if (thrown === request.raw.errored)
    return new BrokerError("invalid_request", "The request did not arrive as a whole.");
  const { code } = (thrown ?? {}) as { readonly code?: unknown };
  // Content-Type holds no type at all.
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") return otherType(stateOf(request).route);
  return undefined;
}
