// A broker with a project, its workers, and an identity provider of its organization, for the clients' tests.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type World, furnish, made, startBroker } from "../harness/broker.ts";
import { AUDIENCE, issuerOf } from "../http/sign-in-kit.ts";

const SUBJECT = "system:serviceaccount:training:worker";

/** `subjectTokenFile` holds a token that signs in as the world's writer, as a pod's would. */
export async function startWorkload() {
  const broker = await startBroker();
  const world = await furnish(broker);
  const folder = await mkdtemp(join(tmpdir(), "coffer-workload-"));
  const subjectTokenFile = join(folder, "subject.token");
  const issuer = issuerOf("https://kubernetes.test");
  await register(world, issuer);
  await writeFile(subjectTokenFile, `${issuer.token({ sub: SUBJECT })}\n`);
  return {
    broker,
    world,
    folder,
    subjectTokenFile,
    async close() {
      await broker.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function register({ owner, organization, writer }: World, issuer: ReturnType<typeof issuerOf>) {
  await made(
    owner.api.post(`/organizations/${organization.id}/identity-providers`, {
      body: {
        issuer: issuer.issuer,
        audience: AUDIENCE,
        jwks: issuer.jwks,
        bindings: [{ claims: { sub: SUBJECT }, service_account_id: writer.id }],
      },
    }),
  );
}
