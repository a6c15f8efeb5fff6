// CRC-32C, the checksum that Google's clouds put beside what they carry. It finds damage, not deceit: whoever can alter
// the bytes can alter the sum. Node's own `zlib.crc32` is another polynomial, so this cannot stand on it.

/** Castagnoli's polynomial 0x1EDC6F41 with its bits in reverse, as the reflected algorithm wants it. */
const POLYNOMIAL = 0x82f63b78;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let rest = byte;
  for (let bit = 0; bit < 8; bit += 1) rest = rest & 1 ? (rest >>> 1) ^ POLYNOMIAL : rest >>> 1;
  return rest;
});

/** CRC-32C (Castagnoli) as RFC 3720, section 12.1, defines it; appendix B.4 there has examples. From 0 to 2^32 - 1. */
export function crc32c(bytes: Uint8Array): number {
  let sum = 0xff_ff_ff_ff;
  for (const byte of bytes) sum = (TABLE[(sum ^ byte) & 0xff] ?? 0) ^ (sum >>> 8);
  return (sum ^ 0xff_ff_ff_ff) >>> 0;
}
