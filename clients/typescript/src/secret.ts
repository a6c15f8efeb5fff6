// A value that no print shows. The only way to it is `reveal()`, which is easy to find in a review.

const SHOWN = "[redacted]";

/** Holds a value; strings, JSON, templates, loggers and inspectors see `[redacted]`. */
export class Secret<T> {
  readonly #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  /** The value itself. */
  reveal(): T {
    return this.#value;
  }

  toString(): string {
    return SHOWN;
  }

  toJSON(): string {
    return SHOWN;
  }

  [Symbol.toPrimitive](): string {
    return SHOWN;
  }

  /** Node's console shows `Secret [redacted] {}`. */
  get [Symbol.toStringTag](): string {
    return "redacted";
  }
}

/** JSON for the broker, and for nobody else: secrets in `body`, at any depth, are written out. */
export function serialize(body: unknown): string {
  return JSON.stringify(body, function (this: Record<string, unknown>, key: string, shown: unknown) {
    // `shown` is what toJSON gave: a secret would be stored as "[redacted]".
    const given = this[key];
    return given instanceof Secret ? given.reveal() : shown;
  });
}
