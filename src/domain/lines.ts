// Text that comes in pieces, line by line; what fails in the pieces fails here.
export async function* linesOf(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8");
  let rest = "";
  for await (const piece of pieces) {
    const [first = "", ...more] = decoder.decode(piece, { stream: true }).split("\n");
    if (more.length === 0) {
      rest += first;
      continue;
    }
    yield rest + first;
    rest = more.pop() ?? "";
    yield* more;
  }
  rest += decoder.decode();
  if (rest !== "") yield rest;
}
