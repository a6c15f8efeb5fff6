// The identity providers that organizations trust, kept between exchanges. Nothing kept is believed by itself: whoever
// asks has just looked which versions of their rows there are, and others are read anew.
import type { TrustedProvider, WorkloadRecord } from "./federation-ports.ts";
import type { Reader } from "./ports.ts";
import { createRecent } from "./recent.ts";

/** Of some ninety providers as large as they may be (64 KB of JSON, 32 keys), or of some fifteen hundred with three keys. */
const KEPT_BYTES_MAX = 32 * 2 ** 20;
/** As memory has them, objects take more than their JSON; a guess. */
const BYTES_EACH_CHARACTER = 3;
/** As it is kept once it was used (auth/foreign-identity.ts): 4.3 KB of P-256, 4.5 of RSA 2048. */
const BYTES_EACH_KEY = 5_000;

type Kept = { readonly providers: readonly TrustedProvider[]; readonly bytes: number };

export function createTrustedProviders(reader: Pick<Reader, "trustedProviders">) {
  const kept = createRecent<Kept>(KEPT_BYTES_MAX, ({ bytes }) => bytes);

  /** Those of a service account's organization, as of `trusted` or later. */
  return async function providersFor({
    account,
    trusted,
  }: WorkloadRecord): Promise<readonly TrustedProvider[]> {
    const { organization_id } = account;
    if (organization_id === null) return [];
    const known = kept.get(organization_id)?.providers;
    if (known !== undefined && isOf(known, trusted)) return known;
    const providers = await reader.trustedProviders(organization_id);
    // Those who asked together have the very same: it is weighed once.
    if (kept.get(organization_id)?.providers !== providers) {
      const keys = providers.reduce((sum, { jwks }) => sum + (jwks?.keys.length ?? 0), 0);
      const bytes = JSON.stringify(providers).length * BYTES_EACH_CHARACTER + keys * BYTES_EACH_KEY;
      kept.put(organization_id, { providers, bytes });
    }
    return providers;
  };
}

function isOf(providers: readonly TrustedProvider[], trusted: WorkloadRecord["trusted"]): boolean {
  return (
    providers.length === trusted.size &&
    providers.every(({ id, row_version }) => trusted.get(id) === row_version)
  );
}
