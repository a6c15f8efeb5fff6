// What one foreign token may cost, which anybody may send to a broker, and a tenant may make as dear as it can.
import { expect, test, vi } from "vitest";
import type { TrustedIssuer } from "../../src/domain/federation-ports.ts";
import type * as PublicKeys from "../../src/auth/public-keys.ts";
import { readKeySet } from "../../src/auth/public-keys.ts";
import { type Key, inline, jwkOf, rsaKey, tokenBy, verifierWith } from "./foreign.ts";

vi.mock("../../src/auth/public-keys.ts", async (original) => {
  const real = await original<typeof PublicKeys>();
  return { ...real, readKeySet: vi.fn<typeof real.readKeySet>(real.readKeySet) };
});

const signer = rsaKey("shared");
const decoys = Array.from({ length: 4 }, () => rsaKey("shared"));
const issuerOf = (...keys: readonly Key[]): TrustedIssuer => ({
  ...inline(signer),
  jwks: { keys: keys.map((key) => jwkOf(key)) },
});

test("a token costs at most 20 signatures, however many providers and keys it could be of", async () => {
  const { verifier } = verifierWith();
  const decoy = issuerOf(...decoys, rsaKey("shared"));
  const real = issuerOf(signer);
  const vouched = (...providers: TrustedIssuer[]) => verifier.verify(providers, tokenBy(signer));
  expect(await vouched(decoy, decoy, decoy, issuerOf(...decoys, signer))).toHaveLength(1);
  expect(await vouched(decoy, decoy, decoy, decoy, real)).toEqual([]);
  expect(await vouched(...Array.from({ length: 20 }, () => real))).toHaveLength(20);
});

test("keys given inline are read once, however many tokens come, and anew when they change", async () => {
  const { verifier } = verifierWith();
  const read = vi.mocked(readKeySet).mockClear();
  const stored = (provider: TrustedIssuer) => JSON.parse(JSON.stringify(provider)) as TrustedIssuer;
  const provider = issuerOf(...decoys, signer);
  for (let uses = 0; uses < 5; uses++)
    expect(await verifier.verify([stored(provider)], tokenBy(signer))).toHaveLength(1);
  expect(read).toHaveBeenCalledTimes(1);
  expect(await verifier.verify([stored(issuerOf(...decoys))], tokenBy(signer))).toEqual([]);
  expect(read).toHaveBeenCalledTimes(2);
});
