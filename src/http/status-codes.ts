// Node's reason phrases by status. Not imported: with all the names of `node:http`, as an ES module has them, comes its
// WebSocket, and for that Node loads a whole HTTP client at once (docs/decisions/0024).
export const { STATUS_CODES } = process.getBuiltinModule("node:http");
