// gRPC as it is on the wire (HTTP/2, length-prefixed protobuf messages, status in trailers), on the messages that the
// client package ships. Written on node:http2 rather than on a gRPC server, because a fault has to reach below gRPC: it
// tears one stream or the whole connection, or answers as a proxy would. It knows nothing of secrets.
import {
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  constants,
  createServer,
} from "node:http2";
import { createRequire } from "node:module";
import type { AddressInfo } from "node:net";
import type { SecretManagerServiceClient } from "@google-cloud/secret-manager";

/** google-gax, as the client package itself finds it: no dependency of ours. */
export type Gax = Extract<
  NonNullable<ConstructorParameters<typeof SecretManagerServiceClient>[1]>,
  { readonly grpc: unknown }
>;

type Method = {
  readonly path: string;
  readonly requestDeserialize: (bytes: Buffer) => unknown;
  readonly responseSerialize: (message: unknown) => Buffer;
};

type Loaded = {
  google: {
    cloud: { secretmanager: { v1: { SecretManagerService: { service: Record<string, Method> } } } };
  };
};

/** How a call ends. */
export type Outcome =
  | { readonly kind: "message"; readonly message: unknown }
  | { readonly kind: "status"; readonly code: number; readonly message: string; readonly reason?: string }
  /** The stream is reset, as by a server that fell over; the connection stays. */
  | { readonly kind: "stream_torn" }
  /** The connection is reset, with whatever else was under way on it. */
  | { readonly kind: "connection_torn" }
  /** Nothing, ever. */
  | { readonly kind: "silence" }
  /** A proxy's page in place of an answer. */
  | { readonly kind: "page"; readonly status: number };

export type WireCall = {
  readonly operation: string;
  readonly request: unknown;
  readonly headers: IncomingHttpHeaders;
};

export type WireServer = {
  readonly port: number;
  /** How many connections are open. */
  readonly connections: number;
  close(): Promise<void>;
};

const clientRequire = createRequire(createRequire(import.meta.url).resolve("@google-cloud/secret-manager"));
export const gax = clientRequire("google-gax") as Gax;

function loadMethods(): ReadonlyMap<string, readonly [name: string, method: Method]> {
  const loaded = new gax.GrpcClient().loadProtoJSON(clientRequire("../protos/protos.json") as object);
  const { service } = (loaded as unknown as Loaded).google.cloud.secretmanager.v1.SecretManagerService;
  return new Map(Object.entries(service).map(([name, method]) => [method.path, [name, method]]));
}

const GRPC = { "content-type": "application/grpc", ":status": 200 };
const UNIMPLEMENTED = 12;
const INTERNAL = 13;

/** The three messages of google/rpc/status.proto, google/rpc/error_details.proto and google/protobuf/any.proto. */
const RPC = gax.protobuf.Root.fromJSON({
  nested: {
    Status: {
      fields: {
        code: { type: "int32", id: 1 },
        message: { type: "string", id: 2 },
        details: { rule: "repeated", type: "Any", id: 3 },
      },
    },
    Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
    ErrorInfo: { fields: { reason: { type: "string", id: 1 }, domain: { type: "string", id: 2 } } },
  },
});

function encoded(type: string, message: Readonly<Record<string, unknown>>): Buffer {
  const found = RPC.lookupType(type);
  return Buffer.from(found.encode(found.create(message)).finish());
}

/** A Status with an ErrorInfo, as Google's APIs send it beside the plain status. */
function details(code: number, message: string, reason: string): string {
  const value = encoded("ErrorInfo", { reason, domain: "googleapis.com" });
  const info = { typeUrl: "type.googleapis.com/google.rpc.ErrorInfo", value };
  return encoded("Status", { code, message, details: [info] }).toString("base64");
}

function endWith(stream: ServerHttp2Stream, outcome: Outcome, method: Method | undefined): void {
  if (stream.destroyed || stream.closed) return;
  switch (outcome.kind) {
    case "message": {
      const message = method?.responseSerialize(outcome.message) ?? Buffer.alloc(0);
      const frame = Buffer.alloc(5 + message.length);
      frame.writeUInt32BE(message.length, 1);
      message.copy(frame, 5);
      stream.respond(GRPC, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(frame);
      return;
    }
    case "status": {
      const { code, message, reason } = outcome;
      stream.respond(
        {
          ...GRPC,
          "grpc-status": String(code),
          "grpc-message": encodeURIComponent(message),
          ...(reason !== undefined && { "grpc-status-details-bin": details(code, message, reason) }),
        },
        { endStream: true },
      );
      return;
    }
    case "stream_torn":
      stream.close(constants.NGHTTP2_INTERNAL_ERROR);
      return;
    case "connection_torn":
      stream.session?.destroy();
      return;
    case "silence":
      return;
    case "page":
      stream.respond({ ":status": outcome.status, "content-type": "text/html" });
      stream.end("<html><body><h1>Bad Gateway</h1></body></html>");
  }
}

/** One message: a byte that says whether it is compressed, four of length, the message. */
function unframed(body: Buffer): Buffer {
  if (body.length < 5 || body[0] !== 0 || body.readUInt32BE(1) !== body.length - 5)
    throw new Error("not one uncompressed gRPC message");
  return body.subarray(5);
}

/** Listens on a free port of the loopback interface. What `answer` throws is INTERNAL, with the error's message. */
export async function startWire(answer: (call: WireCall) => Promise<Outcome>): Promise<WireServer> {
  const methods = loadMethods();
  const server = createServer();
  const sessions = new Set<ServerHttp2Session>();

  async function serve(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): Promise<void> {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    const [operation, method] = methods.get(headers[":path"] ?? "") ?? [];
    if (operation === undefined || method === undefined) {
      endWith(stream, { kind: "status", code: UNIMPLEMENTED, message: "no such method" }, undefined);
      return;
    }
    try {
      const request = method.requestDeserialize(unframed(Buffer.concat(chunks)));
      endWith(stream, await answer({ operation, request, headers }), method);
    } catch (error) {
      endWith(stream, { kind: "status", code: INTERNAL, message: String(error) }, method);
    }
  }

  server.on("session", (session) => {
    sessions.add(session);
    session.on("close", () => sessions.delete(session));
    // A client that goes away is no failure of the fake.
    session.on("error", () => {});
  });
  server.on("stream", (stream, headers) => {
    stream.on("error", () => {});
    serve(stream, headers).catch(() => stream.destroy());
  });
  await new Promise<void>((settle) => server.listen(0, "127.0.0.1", settle));
  return {
    port: (server.address() as AddressInfo).port,
    get connections() {
      return sessions.size;
    },
    close: () =>
      new Promise((settle) => {
        server.close(() => settle());
        for (const session of sessions) session.destroy();
      }),
  };
}
