// How much a token may cost: a bucket of units for each credential, refilled by the second. A request is one unit,
// taken before anything is looked up; each opened value is one more, charged once it is known, so that a bucket may
// go into debt. A credential is known by its hash alone. Each replica counts for itself; memory is bounded.
import type { FastifyRequest } from "fastify";
import { addressBlock } from "../domain/audit.ts";
import { BrokerError } from "../domain/errors.ts";
import type { Clock, Credential } from "../domain/ports.ts";
import { type Recent, createRecent } from "../domain/recent.ts";
import { type Bucket, type RequestState, stateOf } from "./request-state.ts";

export type LimitOptions = {
  /** What a token may cost a second, and at once. */
  readonly unitsPerSecond: number;
  /** Requests a second from one address to what changes something without a token. */
  readonly publicPerSecond: number;
  /** Requests a second from one address that have no token, and are told so. */
  readonly tokenlessPerSecond: number;
  /** Requests a second from one address to whatever is not about the broker itself; 0: no bound. */
  readonly addressPerSecond: number;
};

export const DEFAULT_LIMITS: LimitOptions = {
  unitsPerSecond: 2_000,
  publicPerSecond: 1_000,
  tokenlessPerSecond: 1_000,
  addressPerSecond: 0,
};

const BUCKETS_MAX = 50_000;

/** Buckets by key; past the bound one that was not used lately is given up, which only ever favours its owner. */
export class Buckets {
  readonly #perSecond: number;
  readonly #clock: Clock;
  readonly #buckets: Recent<Bucket>;

  constructor(perSecond: number, clock: Clock, max = BUCKETS_MAX) {
    this.#perSecond = perSecond;
    this.#clock = clock;
    this.#buckets = createRecent(max);
  }

  /** The bucket of a key, refilled. */
  of(key: string): Bucket {
    const at = this.#clock.now().getTime();
    const known = this.#buckets.get(key);
    if (known === undefined) {
      const bucket = { units: this.#perSecond, at, perSecond: this.#perSecond };
      this.#buckets.put(key, bucket);
      return bucket;
    }
    // A clock that was set back refills nothing, and takes nothing.
    const elapsedSeconds = Math.max(0, at - known.at) / 1_000;
    known.units = Math.min(this.#perSecond, known.units + elapsedSeconds * this.#perSecond);
    known.at = at;
    return known;
  }
}

export function createLimiter(options: LimitOptions, clock: Clock) {
  const byCredential = new Buckets(options.unitsPerSecond, clock);
  const byAddress = new Buckets(options.publicPerSecond, clock);
  const tokenlessByAddress = new Buckets(options.tokenlessPerSecond, clock);
  const allByAddress = new Buckets(options.addressPerSecond, clock);

  return {
    /** Takes the unit that the request itself costs; the error to answer when there is none. */
    admit(state: RequestState): BrokerError | null {
      const key = keyOf(state.credential, clock);
      if (key === null) return null;
      const bucket = byCredential.of(key);
      state.bucket = bucket;
      return take(bucket, "This token has cost too much; wait a little.");
    },

    /** Takes one of what an address may ask in all, with whatever tokens. */
    admitRequest(request: Pick<FastifyRequest, "ip">): BrokerError | null {
      // Where proxies are believed, the address is worked out anew whenever it is asked for.
      if (options.addressPerSecond === 0) return null;
      return take(allByAddress.of(addressBlock(request.ip)), "This address asks too much; wait a little.");
    },

    /** The same for what is done without a token, by address. */
    admitAddress(ip: string): BrokerError | null {
      return take(byAddress.of(addressBlock(ip)), "Too many requests from this address.");
    },

    /** The same for what lacks a token. */
    admitTokenless(ip: string): BrokerError | null {
      return take(tokenlessByAddress.of(addressBlock(ip)), "Too many requests without a token.");
    },
  };
}

/**
 * Access tokens that were had with one API token share an allowance, beside its own; others share their principal's: to
 * have many is not to have more. One that is over has a part in none of these: whoever finds it in an old log could use
 * up what the others have, and see what is left of it.
 */
function keyOf(credential: Credential, clock: Clock): string | null {
  if (credential.kind === "api") return credential.hash.toString("base64");
  if (credential.kind !== "access") return null;
  const { token_id, principal_id, expires_at } = credential.claims;
  const key = token_id ?? principal_id;
  return expires_at <= clock.now() ? `over ${key}` : key;
}

function take(bucket: Bucket, detail: string): BrokerError | null {
  if (bucket.units < 1) {
    const seconds = Math.ceil((1 - bucket.units) / bucket.perSecond);
    return new BrokerError("rate_limited", detail, {
      retry_after_seconds: seconds,
      limit: bucket.perSecond,
    });
  }
  bucket.units -= 1;
  return null;
}

/** Says in the answer what is left of the caller's allowance by then, unless it tells of another limit. */
export function tellAllowance({ reply, bucket }: RequestState): void {
  if (bucket === null || reply.hasHeader("ratelimit-limit")) return;
  const { units, perSecond } = bucket;
  reply.header("ratelimit-limit", String(perSecond));
  reply.header("ratelimit-remaining", String(Math.max(0, Math.floor(units))));
  reply.header("ratelimit-reset", String(Math.ceil((perSecond - units) / perSecond)));
}

/** Charges what an answer cost beyond its request: one unit for each value that was opened. */
export function charge(request: FastifyRequest, units: number): void {
  const state = stateOf(request);
  state.opened += units;
  if (state.bucket !== null) state.bucket.units -= units;
}
