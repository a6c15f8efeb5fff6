// Node's reason phrases by status. Not imported: who imports `node:http` as an ES module has all its exports read, and for
// one of them, `WebSocket`, Node loads undici, an HTTP client that no broker needs (docs/decisions/0024).
export const { STATUS_CODES } = process.getBuiltinModule("node:http");
