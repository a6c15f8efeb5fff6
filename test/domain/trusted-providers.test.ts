// What is kept of the providers that organizations trust: read and weighed once, and believed only as what was looked up.
import { expect, test, vi } from "vitest";
import type { TrustedProvider, WorkloadRecord } from "../../src/domain/federation-ports.ts";
import { createTrustedProviders } from "../../src/domain/trusted-providers.ts";

const toJSON = vi.fn<() => string>(() => "a provider");
const providerAt = (row_version: string): TrustedProvider =>
  ({ id: "p", row_version, jwks: null, toJSON }) as unknown as TrustedProvider;
const accountAt = (...versions: string[]): WorkloadRecord => ({
  account: { organization_id: "o" } as WorkloadRecord["account"],
  trusted: new Map(versions.map((each) => ["p", each])),
});

test("those who ask together have what one read brought, which is weighed once", async () => {
  const providers = [providerAt("1")];
  const trustedProviders = vi.fn<() => Promise<TrustedProvider[]>>(async () => providers);
  const providersFor = createTrustedProviders({ trustedProviders });
  toJSON.mockClear();
  const all = await Promise.all(Array.from({ length: 5 }, () => providersFor(accountAt("1"))));
  for (const each of all) expect(each).toBe(providers);
  expect(toJSON).toHaveBeenCalledTimes(1);
  expect(await providersFor(accountAt("1"))).toBe(providers);
  expect(trustedProviders).toHaveBeenCalledTimes(5);
});

test("what is not of the versions that were looked up is read anew", async () => {
  let providers = [providerAt("1")];
  const providersFor = createTrustedProviders({ trustedProviders: async () => providers });
  await providersFor(accountAt("1"));
  providers = [providerAt("2")];
  expect(await providersFor(accountAt("1"))).not.toBe(providers);
  expect(await providersFor(accountAt("2"))).toBe(providers);
  providers = [];
  expect(await providersFor(accountAt())).toBe(providers);
});
