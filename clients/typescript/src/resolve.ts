// References, as the broker resolves them: an outcome for each. One without a value is an error, whatever it says.
import { CofferError } from "./error.ts";
import type { ResolvedReference, SettingValueOrField } from "./generated/api.ts";
import { type Clock, type RetryPolicy, createBackoff } from "./retry.ts";
import { Secret, serialize } from "./secret.ts";
import type { Call } from "./transport.ts";
import type { CallOptions, Explanation, Resolution } from "./types.ts";

type Json = (call: Call) => Promise<unknown>;

/** As many as one request may carry. */
const REFS_MAX = 100;
const OK = 200;
const NO_VALUE = "The answer has no value for this reference.";

export function createResolve(json: Json, policy: RetryPolicy, clock: Clock) {
  async function request(refs: readonly string[], explain: boolean, signal: AbortSignal | undefined) {
    const body = serialize({ refs, ...(explain ? { explain } : {}) });
    const answer = await json({ method: "POST", path: "/settings/resolve", body, repeat: "safe", signal });
    return (answer as { readonly results: readonly ResolvedReference[] }).results;
  }

  /** In the order of `refs`. What may succeed later is tried again, without the others. */
  async function outcomes(refs: readonly string[], explain: boolean, { signal }: CallOptions) {
    const outcomes = refs.map((ref) => missing(ref));
    const backoff = createBackoff(policy, clock);
    for (let pending = [...refs.keys()]; ; ) {
      for (let start = 0; start < pending.length; start += REFS_MAX) {
        const part = pending.slice(start, start + REFS_MAX);
        const results = await request(
          part.map((at) => refs[at] ?? ""),
          explain,
          signal,
        );
        for (const [index, at] of part.entries()) outcomes[at] = results[index] ?? missing(refs[at] ?? "");
      }
      pending = pending.filter((at) => outcomes[at]?.status === 429 || outcomes[at]?.status === 503);
      const wait = pending.length === 0 ? null : backoff.next(undefined);
      if (wait === null) return outcomes;
      await clock.sleep(wait, signal);
    }
  }

  function resolve(ref: string, options?: CallOptions): Promise<Secret<SettingValueOrField>>;
  function resolve(refs: readonly string[], options?: CallOptions): Promise<Resolution[]>;
  async function resolve(given: string | readonly string[], options: CallOptions = {}) {
    const all = await outcomes(typeof given === "string" ? [given] : given, false, options);
    const resolutions = all.map(resolutionOf);
    if (typeof given !== "string") return resolutions;
    const [only = resolutionOf(missing(given))] = resolutions;
    if (only.value !== undefined) return only.value;
    // The reference is not quoted: somebody may have handed over a secret instead.
    const { status, code, detail } = only;
    throw new CofferError({ status, code, detail, problem: refusal(only) });
  }

  async function explain(refs: readonly string[], options: CallOptions = {}): Promise<Explanation[]> {
    return (await outcomes(refs, true, options)).map(({ value: _value, ...rest }) => rest);
  }

  return {
    /** The value of one reference, or an error; of many, an outcome for each in their order. */
    resolve,
    /** What references would give, without opening anything. */
    explain,
  };
}

/** A success without a value is none. */
function resolutionOf(result: ResolvedReference): Resolution {
  const { ref, status, value, version, setting_id, code = "invalid_answer", detail = NO_VALUE } = result;
  if (status !== OK) return { ref, status, code, detail, ...refusal(result) };
  if (value === undefined || version === undefined || setting_id === undefined)
    return { ref, status: 0, code, detail: NO_VALUE };
  return { ref, status: OK, value: new Secret(value), version, setting_id };
}

/** What a 403 says more. */
function refusal({ reason, required }: Pick<ResolvedReference, "reason" | "required">) {
  return { ...(reason === undefined ? {} : { reason }), ...(required === undefined ? {} : { required }) };
}

const missing = (ref: string): ResolvedReference => ({
  ref,
  status: 0,
  code: "invalid_answer",
  detail: NO_VALUE,
});
