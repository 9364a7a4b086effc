// One candidate, to be read.

import { element, find, mark } from "../dom.js";
import { counted, score, stageName } from "../format.js";
import { kindOf, standing } from "../search.js";
import { plain, sections } from "../sections.js";
import { nameOf, SAID } from "./tree.js";

const ENDED = { length: "out of room", cut: "not waited for" };

/** Shows candidate `id` of a search, or none. */
export function readerView({ onClose }) {
  const reader = find("reader");
  let shown = "";

  return function show(search, id) {
    const node = search.nodes[id];
    mark(reader, "hidden", node === undefined);
    const content = node ? contentOf(search, node) : null;
    if (shown === JSON.stringify(content)) return;
    shown = JSON.stringify(content);
    reader.replaceChildren(...(content ? [headOf(content, onClose), ...content.texts.map(textOf)] : []));
  };
}

function contentOf(search, node) {
  const isPart = kindOf(search, node) === "part";
  const parts = isPart ? [{ text: plain(node.text) }] : sections(node.text, { whole: node.done });
  const state = standing(search, node);
  return {
    name: nameOf(search, node),
    state,
    facts: [
      SAID[state],
      node.score === null ? "" : `score ${score(node.score)}`,
      node.done ? counted(node.tokens, "token") : "",
      ENDED[node.finish] ?? "",
    ].filter(Boolean),
    texts: parts.map((part) => ({ title: parts.length > 1 ? stageName(part.stage) : "", text: part.text })),
  };
}

function headOf({ name, facts, state }, onClose) {
  const close = element("button", { type: "button", class: "plain", "aria-label": "Close the candidate" }, "Close");
  close.addEventListener("click", onClose);
  return element(
    "div",
    { class: "reader-head" },
    element("h3", {}, element("i", { class: "chip", "data-standing": state }), name),
    close,
    element("p", { class: "quiet" }, facts.join(" · ")),
  );
}

function textOf({ title, text }) {
  return element("div", {}, title ? element("h4", {}, title) : null, element("p", { class: "text" }, text));
}
