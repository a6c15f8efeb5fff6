// New values for secrets, from the system's generator alone. Nothing here logs, keeps or counts what it makes.
import { type KeyObject, generateKeyPair, randomBytes, randomInt, randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { unavailable } from "../domain/errors.ts";
import type { Generator, ValueGenerator } from "../domain/lifecycle-ports.ts";
import { createLimiter } from "../domain/limiter.ts";

const LETTERS = "abcdefghijklmnopqrstuvwxyz";
/** No blank, quote, backslash, `$` or backtick: what every shell, URL and .env file has trouble with. */
const CLASSES = {
  lower: LETTERS,
  upper: LETTERS.toUpperCase(),
  digits: "0123456789",
  symbols: "!#%&()*+,-./:;<=>?@[]^_{|}~",
} as const;

const keyPair = promisify(generateKeyPair);
/** An RSA key takes a processor, and one of the few threads that DNS and files use as well, for a second or more. */
const rsaTurns = createLimiter(1, { lineMax: 4 });
const RSA_WAIT_MS = 10_000;

/** @throws BrokerError `unavailable` when others of the tenant's are being made, and some wait already */
async function rsa(modulusLength: number, tenantId: string) {
  if (!(await rsaTurns.take(RSA_WAIT_MS, tenantId)))
    throw unavailable("Too many RSA keys are being made; try again.");
  try {
    return pem(await keyPair("rsa", { modulusLength }));
  } finally {
    rsaTurns.give(tenantId);
  }
}

/** PKCS #8 and SubjectPublicKeyInfo, as PEM: what every tool reads. */
function pem({ publicKey, privateKey }: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }) {
  const text = (exported: string | Buffer): string => exported.toString();
  return {
    value: text(privateKey.export({ type: "pkcs8", format: "pem" })),
    public_part: text(publicKey.export({ type: "spki", format: "pem" })),
  };
}

/** Each character by itself and all alike likely; drawn anew until every class is there, so that none is favoured. */
function password(length: number, classes: readonly (keyof typeof CLASSES)[]): string {
  const sets = classes.map((each) => CLASSES[each]);
  const all = sets.join("");
  for (;;) {
    const drawn = Array.from({ length }, () => all.charAt(randomInt(all.length)));
    if (sets.every((set) => drawn.some((letter) => set.includes(letter)))) return drawn.join("");
  }
}

async function made(
  generator: Generator,
  tenantId: string,
): Promise<{ value: string; public_part: string | null }> {
  const plain = (value: string) => ({ value, public_part: null });
  switch (generator.kind) {
    case "password":
      return plain(password(generator.length, generator.classes));
    case "hex":
    case "base64":
      return plain(randomBytes(generator.bytes).toString(generator.kind));
    case "uuid":
      return plain(randomUUID());
    case "ed25519":
      return pem(await keyPair("ed25519"));
    case "ecdsa":
      return pem(await keyPair("ec", { namedCurve: generator.curve }));
    case "rsa":
      return rsa(generator.bits, tenantId);
  }
}

export function createValueGenerator(publicPart: {
  readonly seal: ValueGenerator["sealPublicPart"];
  readonly open: ValueGenerator["openPublicPart"];
}): ValueGenerator {
  return { generate: made, sealPublicPart: publicPart.seal, openPublicPart: publicPart.open };
}
