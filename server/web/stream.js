// Server-sent events as they come in.

/** The stream ended before its end. */
export class BrokenStream extends Error {}

/** The JSON of each event of a body of text chunks, up to [DONE]. */
export async function* events(chunks) {
  let rest = "";
  for await (const chunk of chunks) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop();
    for (const data of blocks.map(dataOf).filter(Boolean)) {
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
  throw new BrokenStream("the stream broke off");
}

function dataOf(block) {
  return block
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice("data:".length).trimStart())
    .join("\n");
}

/** The decoded text of a response, chunk by chunk. */
export async function* texts(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) yield read.value;
  } finally {
    reader.cancel().catch(() => {}); // a stream that has failed cannot be cancelled
  }
}
