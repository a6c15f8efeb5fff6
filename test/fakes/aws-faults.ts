// What can be made to go wrong between a client and the fake. Of the rules that apply the first given strikes. What is random comes from a seed, so that a run can be repeated.
export type FaultKind =
  /** An error by its name, before anything is done. */
  | "error"
  /** An HTTP status with a JSON body that names no error. */
  | "status"
  /** Done and answered, but late. */
  | "delay"
  /** The socket is closed before anything is done. */
  | "reset"
  /** Done; then the socket is closed without an answer. */
  | "cut_off"
  /** A page of HTML, as a load balancer sends it. */
  | "html"
  /** Neither done nor answered. */
  | "hang"
  | "throttle";

export type Fault = {
  /** Only for this operation; without it, for all. */
  readonly operation?: string;
  readonly kind: FaultKind;
  readonly errorName?: string;
  readonly message?: string;
  readonly status?: number;
  /** More members of the error's body. */
  readonly body?: Readonly<Record<string, unknown>>;
  readonly milliseconds?: number;
  /** A delay that lasts until this resolves. */
  readonly until?: Promise<unknown>;
  /** How many of the calls that it is for it lets pass first, whatever else strikes them. */
  readonly skip?: number;
  /** How often it strikes; once, unless said otherwise. */
  readonly times?: number;
  /** From 0 to 1: strikes so many of the calls that it is for. */
  readonly probability?: number;
  readonly seed?: number;
};

/** Kinds at random, of those that a client has to live with. */
export type Storm = {
  readonly seed: number;
  readonly probability: number;
  readonly kinds?: readonly FaultKind[];
};

const STORM: readonly FaultKind[] = ["throttle", "status", "reset", "cut_off", "delay", "html"];

export type Faults = {
  add(fault: Fault): void;
  storm(storm: Storm | null): void;
  clear(): void;
  /** The fault that strikes this call, if any. */
  strike(operation: string): Fault | null;
};

export function createFaults(): Faults {
  let rules: { readonly fault: Fault; skip: number; left: number; readonly random: () => number }[] = [];
  let storm: (() => Fault | null) | null = null;
  return {
    add(fault) {
      const { skip = 0, times = 1, seed = 1 } = fault;
      rules.push({ fault, skip, left: times, random: seeded(seed) });
    },
    storm(wanted) {
      if (wanted === null) storm = null;
      else {
        const { probability, seed, kinds = STORM } = wanted;
        const random = seeded(seed);
        storm = () => {
          if (random() >= probability) return null;
          const kind = kinds[Math.floor(random() * kinds.length)] ?? "status";
          return { kind, milliseconds: Math.floor(random() * 100) };
        };
      }
    },
    clear() {
      rules = [];
      storm = null;
    },
    strike(operation) {
      let struck: Fault | null = null;
      for (const rule of rules) {
        const { fault } = rule;
        if (rule.left <= 0 || (fault.operation !== undefined && fault.operation !== operation)) continue;
        if (rule.skip > 0) rule.skip -= 1;
        else if (struck === null && (fault.probability === undefined || rule.random() < fault.probability)) {
          rule.left -= 1;
          struck = fault;
        }
      }
      if (struck !== null) return struck;
      return storm?.() ?? null;
    },
  };
}

/** Numbers from 0 to below 1, always the same for one seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
