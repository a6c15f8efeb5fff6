// Builds the HTTP application: what holds for every request, and the routes. It never listens, and reads no
// environment. The framework has no logger, no default parser and no default error handler left: each of them
// would quote its input somewhere.
import type { IncomingMessage, ServerResponse } from "node:http";
import fastifyJwt from "@fastify/jwt";
import type { TypeBoxTypeProvider } from "@fastify/type-provider-typebox";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type RawServerDefault,
} from "fastify";
import type { Logger } from "pino";
import { mayHoldToken } from "../auth/api-token.ts";
import type { SigningKeys } from "../auth/signing-keys.ts";
import type { Broker } from "../domain/broker.ts";
import { BrokerError, type ErrorCode } from "../domain/errors.ts";
import type { Clock, Credential, NewId } from "../domain/ports.ts";
import { createAccessTokens } from "./access-tokens.ts";
import { callerOf, credentialOf } from "./authenticate.ts";
import { BODY_BYTES_MAX, NotTaken, bodyFault, setBodyParsers } from "./body.ts";
import {
  connectionFor,
  PARAMETER_LENGTH_MAX,
  answerOnSocket,
  countSentAhead,
  headersFor,
  hostError,
  knowAddress,
} from "./connection.ts";
import { createContract } from "./contract.ts";
import { faultOf } from "./faults.ts";
import { type LimitOptions, createLimiter, tellAllowance } from "./limits.ts";
import type { Metrics } from "./metrics.ts";
import { sendOAuthError } from "./oauth.ts";
import { assertQuery, parseQuery } from "./parsing.ts";
import { PROBLEMS, sendProblem } from "./problem.ts";
import { NO_ROUTE, type RequestState, type RouteInfo, beginState, stateOf } from "./request-state.ts";
import { type CheckHealth, serviceRoutes } from "./routes/service.ts";
import { SHED, type SheddingOptions, createShedder } from "./shedding.ts";
import type { SignInDeps } from "./routes/sign-in.ts";
import { AJV_OPTIONS, compilersAtFirstUse } from "./schema-compilers.ts";
import { COMPONENTS } from "./schemas/kit.ts";
import { type TraceRequest, tracing } from "./trace-requests.ts";
import { createUnderWay } from "./under-way.ts";

export type App = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>;

export type AppDeps = {
  readonly broker: Broker;
  readonly logger: Logger;
  readonly limits: LimitOptions;
  readonly shedding: SheddingOptions;
  /** How long a connection may be silent in the middle of a request or of its answer. */
  readonly silenceSeconds: number;
  readonly health: CheckHealth;
  readonly metrics: Metrics;
  readonly signingKeys: SigningKeys;
  /** The addresses or ranges of the proxies whose X-Forwarded-For is believed; false for none. */
  readonly trustProxy: false | readonly string[];
  readonly version: string;
  /** Where clients reach the broker, if that is known; then also the issuer of its access tokens. */
  readonly publicUrl: string | null;
  readonly clock: Clock;
  readonly newId: NewId;
  /** How long requests that are under way may take to end once the app is closed. */
  readonly drainSeconds: number;
  /** Where requests are traced. */
  readonly trace?: TraceRequest | null;
};

/** Adds routes to the application; routes.ts has those of the broker, a test may have others. */
export type RegisterRoutes = (app: App, broker: Broker, signIn: SignInDeps) => void;

/** An id that may be echoed and logged; one that looks like a token of ours is not, see below. */
const REQUEST_ID = /^[A-Za-z0-9._-]{1,128}$/;
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] as const;

/** What may be wrong with a request before it is known who asks; a bad token is told first all the same. */
const BEFORE_THE_GATE: ReadonlySet<ErrorCode> = new Set([
  "invalid_request",
  "invalid_reference",
  "invalid_value",
  "not_acceptable",
  "not_found",
  "too_large",
  "unsupported_media_type",
]);

/** @throws Error when a route breaks the contract */
export async function buildApp(deps: AppDeps, registerRoutes: RegisterRoutes): Promise<App> {
  const { broker, logger, metrics, newId } = deps;
  const limiter = createLimiter(deps.limits, deps.clock);
  const shedder = createShedder(deps.shedding, (reason) => metrics.shed(reason));
  const headers = headersFor(deps.publicUrl);
  const underWay = createUnderWay();
  const sentAhead = countSentAhead();
  metrics.watch(underWay.size);

  const app: App = Fastify({
    logger: false,
    genReqId: ({ headers: { "x-request-id": given } }) =>
      typeof given === "string" && REQUEST_ID.test(given) && !mayHoldToken(given) ? given : newId(),
    bodyLimit: BODY_BYTES_MAX,
    trustProxy: deps.trustProxy === false ? false : [...deps.trustProxy],
    ...connectionFor(deps.silenceSeconds),
    // While closing, what still arrives on an open connection is served, and the connection closed.
    return503OnClosing: false,
    routerOptions: { querystringParser: parseQuery, maxParamLength: PARAMETER_LENGTH_MAX },
    ajv: { customOptions: AJV_OPTIONS },
    schemaController: { compilersFactory: compilersAtFirstUse() },
    frameworkErrors: (thrown, request, reply) => {
      if (begin(request, reply, NO_ROUTE) === null) return;
      answerProblem(faultOf(thrown, contract.names), request, reply);
    },
    clientErrorHandler: (thrown, socket) => answerOnSocket(thrown, socket, newId()),
  }).withTypeProvider<TypeBoxTypeProvider>();

  // Each signature is made and verified with a key that is named for it; the plugin has none of its own.
  await app.register(fastifyJwt, {
    secret: { public: noKey, private: noKey },
    sign: { algorithm: "EdDSA" },
    verify: { algorithms: ["EdDSA"] },
  });
  const issuer = deps.publicUrl ?? "coffer";
  const accessTokens = createAccessTokens(app, deps.signingKeys, { issuer, clock: deps.clock });

  const contract = createContract((id) => COMPONENTS.get(id));
  app.addHook("onRoute", (route) => {
    contract.admit(route);
    if (!isOfService(route.config?.info ?? NO_ROUTE, route.method)) shedder.count(route);
  });
  app.decorateRequest("state", null);

  /** Null where nobody is there to be answered: the connection was ended just now. */
  function begin(request: FastifyRequest, reply: FastifyReply, route: RouteInfo): RequestState | null {
    for (const [name, value] of headers) reply.header(name, value);
    reply.header("x-request-id", request.id);
    const state = beginState(request, reply, route);
    underWay.enter(state);
    reply.raw.on("close", () => end(request, state));
    return sentAhead.begin(request.raw.socket) ? state : null;
  }

  /** After the answer, or when the client has left without one. */
  function end({ id, method, raw }: FastifyRequest, state: RequestState): void {
    if (!underWay.leave(state)) return;
    sentAhead.end(raw.socket);
    const { route, startedAt, code, opened } = state;
    const response = state.reply.raw;
    const status = response.writableEnded ? response.statusCode : 499;
    const milliseconds = performance.now() - startedAt;
    metrics.answered(method, route.pattern, status, milliseconds / 1_000);
    if (opened > 0) metrics.opened(opened);
    const line = {
      request_id: id,
      method,
      route: route.pattern,
      status,
      duration_ms: Math.round(milliseconds * 100) / 100,
    };
    // Probes come every few seconds and say nothing.
    const level = status >= 500 ? "warn" : route.action === "public" && status < 400 ? "debug" : "info";
    logger[level](code === null ? line : { ...line, code }, "request");
  }

  if (deps.trace) app.addHook("onRequest", tracing(deps.trace));
  app.addHook("onRequest", (request, reply, done) => {
    const state = begin(request, reply, request.routeOptions.config.info ?? NO_ROUTE);
    if (state === null) return;
    const { route } = state;
    const unnamed = hostError(request.raw);
    if (unnamed !== undefined) return done(unnamed);
    if (route === NO_ROUTE) return done(noRouteError(app, request, reply));
    if (isOfService(route, request.method)) return done(queryError(request, state));
    const turnedAway = shedder.refusal() ?? limiter.admitRequest(request);
    if (turnedAway !== null) return done(turnedAway);
    if (route.action === "public") {
      const refused = limiter.admitAddress(request.ip);
      return done(refused ?? queryError(request, state));
    }
    const admit = (credential: Credential): void => {
      state.credential = credential;
      if (!isPresented(credential)) {
        const tooMany = credential.kind === "absent" ? limiter.admitTokenless(request.ip) : null;
        return void (tooMany === null ? refuse(request, done) : done(tooMany));
      }
      done(limiter.admit(state) ?? queryError(request, state));
    };
    const credential = credentialOf(request.raw, accessTokens);
    if (credential instanceof Promise) credential.then(admit, done);
    else admit(credential);
  });

  /** The gate refuses it, and counts that, without asking the database who it is. */
  async function refuse(request: FastifyRequest, done: (error: Error) => void): Promise<void> {
    const reason = await broker.identify(callerOf(request)).then(
      () => new BrokerError("unauthenticated", "A token is needed."),
      (refused: unknown) => faultOf(refused, contract.names),
    );
    done(reason);
  }

  app.addHook("onSend", (request, _reply, payload, done) => {
    shedder.answering(request);
    tellAllowance(stateOf(request));
    done(null, payload);
  });

  app.setErrorHandler((thrown, request, reply) => {
    const error = bodyFault(thrown, request) ?? faultOf(thrown, contract.names);
    const state = stateOf(request);
    const asked = state.route.action !== "public" && isPresented(state.credential);
    if (!asked || !BEFORE_THE_GATE.has(error.code)) {
      answerProblem(error, request, reply);
      return;
    }
    // Whoever presents a bad token hears of the token and of nothing else. The gate counts a use once a caller.
    broker.identify(callerOf(request)).then(
      () => answerProblem(error, request, reply),
      (refused: unknown) => answerProblem(faultOf(refused, contract.names), request, reply),
    );
  });
  app.setNotFoundHandler((request, reply) => {
    answerProblem(noRouteError(app, request, reply), request, reply);
  });

  function answerProblem(error: BrokerError, request: FastifyRequest, reply: FastifyReply): void {
    metrics.problem(error.code);
    const isFault = PROBLEMS[error.code].status >= 500 && error !== SHED;
    const operation = stateOf(request).route.operation;
    if (isFault) logger.error({ request_id: request.id, operation, code: error.code, error }, "fault");
    const send = stateOf(request).route.takesForm ? sendOAuthError : sendProblem;
    if (error instanceof NotTaken) reply.headers(error.accepts);
    send(reply, error, request.state);
  }

  setBodyParsers(app);

  app.server.on("connection", knowAddress);
  // An expectation that is not known is passed over; Node would answer it by itself, and nobody would know.
  app.server.on("checkExpectation", (...exchange) => app.server.emit("request", ...exchange));

  app.addHook("preClose", (done) => {
    shedder.close();
    for (const { reply } of underWay.all()) if (!reply.raw.headersSent) reply.raw.shouldKeepAlive = false;
    // Whoever has not ended by then is cut off. Open connections keep the process alive; this does not.
    setTimeout(() => app.server.closeAllConnections(), deps.drainSeconds * 1_000).unref();
    done();
  });

  serviceRoutes(app, { ...deps, contract });
  registerRoutes(app, broker, { ...deps, accessTokens });
  await app.ready();
  return app;
}

/** What the broker tells of itself: it needs no token, and is answered however busy the broker is. */
function isOfService({ action }: RouteInfo, method: unknown): boolean {
  return action === "public" && method !== "POST";
}

/** Whether there is a token to look up. */
function isPresented({ kind }: Credential): boolean {
  return kind === "api" || kind === "access";
}

function noKey(): Promise<string> {
  return Promise.reject(new Error("no key was named"));
}

function queryError(request: FastifyRequest, { route }: RequestState): Error | undefined {
  try {
    assertQuery(request.query, route);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}

/** A known path with another method is 405, with the methods that it has; the rest is 404. Neither needs a token. */
function noRouteError(app: App, request: FastifyRequest, reply: FastifyReply): BrokerError {
  const [url = "/"] = request.url.split("?", 1);
  const allowed = METHODS.filter((method) => app.findRoute({ method, url }) !== null);
  if (allowed.length === 0) return new BrokerError("not_found", "There is no such route.");
  reply.header("allow", allowed.join(", "));
  return new BrokerError("method_not_allowed", `This takes ${allowed.join(", ")}.`);
}
