// What the tests of references share: settings to refer to, calls, and the results of an answer.
import { expect } from "vitest";
import { type Answer, type Api, REGISTRY, S3, type World, made } from "../harness/broker.ts";
import { type Owner, inSeconds, settingsOf } from "./settings-kit.ts";

export type Result = Record<string, unknown>;

/** Puts a setting of each type into a project, one in two versions and one that is soon over; gives their ids. */
export async function referable({ writer: { api }, project }: World) {
  const writer = settingsOf(api, project);
  const values: [string, unknown][] = [
    ["connect/S3/a", { ...S3, force_path_style: true }],
    ["connect/ContainerRegistry/r", REGISTRY],
    ["secret/Custom/c", "first"],
    ["secret/Custom/c", "second"],
    ["secret/Custom/deep/er", "deeper"],
  ];
  const ids: Record<string, string> = {};
  for (const [path, value] of values) ids[path] = (await made(writer.put(path, value))).id;
  await made(writer.put("secret/Custom/brief", "x", { expires_at: inSeconds(60) }));
  return { writer, ids };
}

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
