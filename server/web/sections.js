// Tagged text as its stages, also while it still grows; the same rules as swires/parser.py.

export const STAGES = ["SUMMARY", "CAPTION", "REASONING", "CONCLUSION"];

const TAGS = STAGES.flatMap((stage) => [`<${stage}>`, `</${stage}>`]);
const TAG = new RegExp(`(${TAGS.join("|")})`);

/** Sections `{stage, text, closed}` in the order of the text; with `whole`, no more text is to come. */
export function sections(text, { whole = false } = {}) {
  const found = [];
  const outside = [""];
  let open = null;
  for (const piece of (whole ? text : withoutPartialTag(text)).split(TAG)) {
    if (!TAGS.includes(piece)) {
      if (open) open.text += piece;
      else outside.push(outside.pop() + piece);
    } else if (!piece.startsWith("</") || piece === `</${open?.stage}>`) {
      if (open) open.closed = true;
      open = piece.startsWith("</") ? null : { stage: piece.slice(1, -1), text: "", closed: false };
      if (open) found.push(open);
      outside.push("");
    }
  }
  const kept = found.map(trimmed).filter((section) => section.text).filter(isFirstConclusion);
  const rest = outside.map((piece) => piece.trim()).filter(Boolean).join("\n");
  const concluded = kept.some((section) => section.stage === "CONCLUSION");
  return whole && rest && !concluded ? [...kept, { stage: "CONCLUSION", text: rest, closed: true }] : kept;
}

/** The text alone, a blank line where a tag was. */
export const plain = (text) =>
  text.split(TAG).filter((piece) => !TAGS.includes(piece)).map((piece) => piece.trim()).filter(Boolean).join("\n\n");

const trimmed = (section) => ({ ...section, text: section.text.trim() });

const isFirstConclusion = (section, index, all) =>
  section.stage !== "CONCLUSION" || all.findIndex((other) => other.stage === "CONCLUSION") === index;

function withoutPartialTag(text) {
  const start = text.lastIndexOf("<");
  return start >= 0 && TAGS.some((tag) => tag.startsWith(text.slice(start)) && tag !== text.slice(start))
    ? text.slice(0, start)
    : text;
}
