// The part of the configuration that bounds what one address, one owner and all callers together may take.

export type LimitSettings = {
  /** Requests a second from one address; 0: no bound. */
  readonly addressRequests: number;
  /** Requests that are worked on at once; more are turned away. */
  readonly requestsMax: number;
  /** How late the event loop may be before requests are turned away; 0: as late as it likes. */
  readonly loopDelayMaxMs: number;
  /** After so long without a byte in either direction a connection with a request under way is ended. */
  readonly silenceSeconds: number;
  /** Settings that one owner may have; 0: any number. */
  readonly settingsMax: number;
  /** Versions, not yet destroyed, that one owner's settings may have together; 0: any number. */
  readonly versionsMax: number;
};

type Whole = (name: string, fallback: number, least: number, most: number) => number;

export const LIMIT_NAMES = [
  "COFFER_ADDRESS_RATE_LIMIT",
  "COFFER_REQUESTS_MAX",
  "COFFER_LOOP_DELAY_MAX_MS",
  "COFFER_SILENCE_SECONDS",
  "COFFER_QUOTA_SETTINGS",
  "COFFER_QUOTA_VERSIONS",
] as const;

/** @param whole reads a whole number from the environment, and notes what is wrong with it */
export function limitSettings(whole: Whole): LimitSettings {
  return {
    addressRequests: whole("COFFER_ADDRESS_RATE_LIMIT", 0, 0, 1_000_000),
    requestsMax: whole("COFFER_REQUESTS_MAX", 500, 1, 100_000),
    loopDelayMaxMs: whole("COFFER_LOOP_DELAY_MAX_MS", 1_000, 0, 60_000),
    silenceSeconds: whole("COFFER_SILENCE_SECONDS", 60, 20, 3_600),
    settingsMax: whole("COFFER_QUOTA_SETTINGS", 0, 0, 1_000_000),
    versionsMax: whole("COFFER_QUOTA_VERSIONS", 0, 0, 10_000_000),
  };
}

export function describeLimits(limits: LimitSettings): readonly (readonly [string, string | number])[] {
  return [
    ["COFFER_ADDRESS_RATE_LIMIT", limits.addressRequests || "(no limit)"],
    ["COFFER_REQUESTS_MAX", limits.requestsMax],
    ["COFFER_LOOP_DELAY_MAX_MS", limits.loopDelayMaxMs || "(not looked at)"],
    ["COFFER_SILENCE_SECONDS", limits.silenceSeconds],
    ["COFFER_QUOTA_SETTINGS", limits.settingsMax || "(no quota)"],
    ["COFFER_QUOTA_VERSIONS", limits.versionsMax || "(no quota)"],
  ];
}
