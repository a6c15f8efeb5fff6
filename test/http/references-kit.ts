// What the tests of references share: calls, and the results of an answer.
import { expect } from "vitest";
import type { Answer, Api } from "../harness/broker.ts";
import type { Owner } from "./settings-kit.ts";

export type Result = Record<string, unknown>;

export const refOf = (path: string, { type, id }: Owner) => `${type}/${id}/${path}`;
export const resolve = (api: Api, refs: unknown, rest: object = {}) =>
  api.post("/settings/resolve", { body: { refs, ...rest } });
export const explain = (api: Api, refs: unknown) => resolve(api, refs, { explain: true });

export const resultsOf = ({ status, body }: Answer): Result[] => {
  expect(status).toBe(200);
  return body.results;
};
export const onlyOf = async (answer: Promise<Answer>) => resultsOf(await answer)[0];
export const statusesOf = async (answer: Promise<Answer>) =>
  resultsOf(await answer).map(({ status }) => status);

/** A Comet API Key Secret. */
export const comet = (note: object) => `_SECRET_-${Buffer.from(JSON.stringify(note)).toString("base64")}`;
export const AWS = {
  type: "AWS",
  details: { secret_name: "n", region_name: "r" },
  comet_ml_version: "3.58.8",
};
