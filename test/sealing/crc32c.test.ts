// CRC-32C against published values: RFC 3720, appendix B.4 (whose bytes are given in the order of the wire), and the
// check value of the catalogue of parametrised CRC algorithms (CRC-32/ISCSI).
import { expect, test } from "vitest";
import { crc32c } from "../../src/sealing/crc32c.ts";

const sequence = Uint8Array.from({ length: 32 }, (_, index) => index);
/** An iSCSI SCSI Read (10) command PDU, as the RFC prints it. */
const READ_PDU =
  "01c000000000000000000000000000001400000000000400000000140000001828000000000000000200000000000000";

test.each([
  ["32 bytes of zeroes", new Uint8Array(32), "aa36918a"],
  ["32 bytes of ones", new Uint8Array(32).fill(0xff), "43aba862"],
  ["32 bytes that count up", sequence, "4e79dd46"],
  ["32 bytes that count down", sequence.toReversed(), "5cdb3f11"],
  ["an iSCSI command", Buffer.from(READ_PDU, "hex"), "563a96d9"],
])("RFC 3720, B.4: %s", (_, bytes, wire) => {
  expect(crc32c(bytes)).toBe(Buffer.from(wire, "hex").readUInt32LE());
});

test("the catalogue's check value", () => {
  expect(crc32c(Buffer.from("123456789"))).toBe(0xe3_06_92_83);
});

test("nothing has the sum 0", () => {
  expect(crc32c(new Uint8Array())).toBe(0);
});
