// The table of failures, row by row: what our caller is told, and whether trying again can help.
import { describe, expect, test } from "vitest";
import { BrokerError } from "../../src/domain/errors.ts";
import {
  type Failure,
  ManagerCallError,
  type OperationKind,
  canRetry,
  failureError,
  failureOf,
} from "../../src/sealing/manager-failures.ts";

describe("what is told of a failure", () => {
  const KINDS: readonly OperationKind[] = ["read", "write", "delete"];
  const ROWS: readonly (readonly [Failure, string, string, string, number | undefined, boolean])[] = [
    // class, code on read, write and delete, Retry-After, whether an idempotent call is tried again
    ["absent", "manager_failed", "manager_failed", "manager_failed", undefined, false],
    ["scheduled_for_deletion", "manager_failed", "conflict", "manager_failed", undefined, false],
    ["disabled", "manager_failed", "conflict", "manager_failed", undefined, false],
    ["exists", "manager_failed", "conflict", "conflict", undefined, false],
    ["too_large", "too_large", "too_large", "too_large", undefined, false],
    ["throttled", "unavailable", "unavailable", "unavailable", 2, true],
    ["quota", "unavailable", "unavailable", "unavailable", 60, false],
    ["kms_refused", "manager_failed", "manager_failed", "manager_failed", undefined, false],
    ["denied", "manager_failed", "manager_failed", "manager_failed", undefined, false],
    ["checksum", "manager_failed", "manager_failed", "manager_failed", undefined, true],
    ["away", "unavailable", "unavailable", "unavailable", 1, true],
    ["rejected", "manager_failed", "manager_failed", "manager_failed", undefined, false],
  ];

  test.each(ROWS)("%s", (failure, onRead, onWrite, onDelete, retryAfter, isRetried) => {
    const errors = KINDS.map((kind) => failureError("GetSecretValue", kind, { failure, name: "X" }));
    expect(errors.map(({ code }) => code)).toEqual([onRead, onWrite, onDelete]);
    expect(errors.map(({ fields }) => fields.retry_after_seconds)).toEqual(Array(3).fill(retryAfter));
    expect(errors.map(failureOf)).toEqual(Array(3).fill(failure));
    expect(canRetry(failure, 1, true)).toBe(isRetried);
    expect(canRetry(failure, 1, false)).toBe(failure === "throttled");
  });

  test("a name that is no word is not passed on", () => {
    const error = new ManagerCallError("GetSecretValue", "away", {
      name: "a text, of a kind",
      request_id: "<b>",
    });
    expect(error.message).toBe("GetSecretValue: away (Unnamed)");
    expect(failureOf(error)).toBeNull();
    expect(failureOf(new BrokerError("conflict", "x"))).toBeNull();
  });
});
