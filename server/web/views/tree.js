// The candidates as a tree: buttons over lines, in which the arrow keys walk along the branches.

import { element, find, mark, say, shape } from "../dom.js";
import { score, stageName } from "../format.js";
import { layout } from "../layout.js";
import { kindOf, standing } from "../search.js";
import { sections } from "../sections.js";

const ROW = 31;
const HEIGHT = 24;
const WIDE = { width: 84, gap: 34 };
const NARROW_GAP = 16;
const LEAST_WIDTH = 52;
const BEND = 7;
const PADDING = 8; // of the frame, for the outlines of what has focus

export const SAID = {
  chosen: "chosen",
  growing: "being written",
  cut: "cut off",
  retraced: "retraced",
  kept: "kept",
  leading: "leading",
  dropped: "dropped",
  open: "not decided",
};

/** Shows searches in the page's tree; `onSelect` is told the id of the candidate that is to be read. */
export function treeView({ onSelect }) {
  const [frame, tree, titles, none] = ["tree-frame", "tree", "titles", "no-tree"].map(find);
  const lines = shape("svg", { class: "lines", "aria-hidden": "true" });
  const turns = element("div", { class: "turns", "aria-hidden": "true" });
  const buttons = new Map();
  let shown = null;
  tree.append(lines, turns);

  function show(search, selected) {
    const plan = layout(search);
    const size = sizeFor(frame.clientWidth - PADDING, plan.columns);
    const isWider = search.state === "running" && plan.columns > (shown?.plan.columns ?? 0);
    shown = { search, selected, plan, size };
    mark(frame, "data-narrow", size.narrow);
    mark(none, "hidden", search.nodes.length > 0);
    tree.style.setProperty("height", `${plan.rows * ROW}px`);
    tree.style.setProperty("width", `${widthOf(plan.columns, size)}px`);
    titles.replaceChildren(...titlesOf(search, plan).map((title, column) => titleAt(title, column, size)));
    turns.replaceChildren(...plan.turns.map((turn) => turnAt(turn, size)));
    lines.replaceChildren(...edges(shown).map(({ d, kind }) => shape("path", { d, "data-kind": kind })));
    showButtons();
    if (isWider) frame.scrollLeft = frame.scrollWidth;
  }

  function showButtons() {
    const { search, selected, plan, size } = shown;
    for (const id of [...buttons.keys()].filter((id) => !plan.cells.has(id))) removed(id);
    [...plan.cells].forEach(([id, cell], index) => {
      const button = buttons.get(id) ?? added(id);
      if (tree.children[index + 2] !== button) tree.insertBefore(button, tree.children[index + 2] ?? null);
      fill(button, search, search.nodes[id]);
      mark(button, "aria-level", cell.column + 1);
      mark(button, "aria-selected", String(id === selected));
      mark(button, "tabindex", id === (selected ?? 0) ? 0 : -1);
      button.style.setProperty("width", `${size.width}px`);
      button.style.setProperty("left", `${leftOf(cell.column, size)}px`);
      button.style.setProperty("top", `${cell.row * ROW}px`);
    });
  }

  function added(id) {
    const button = element("button", { type: "button", role: "treeitem", class: "chip" });
    button.append(element("b"), element("span"));
    button.addEventListener("click", () => {
      onSelect(id);
      button.scrollIntoView({ block: "nearest", inline: "nearest" });
    });
    button.addEventListener("keydown", (event) => walk(event, id));
    buttons.set(id, button);
    return button;
  }

  function removed(id) {
    buttons.get(id).remove();
    buttons.delete(id);
  }

  function walk(event, id) {
    const to = neighbour(shown, id, event.key);
    if (to === undefined) return;
    event.preventDefault();
    onSelect(to);
    buttons.get(to).focus();
  }

  new ResizeObserver(() => shown && show(shown.search, shown.selected)).observe(frame);
  return { show };
}

/** "Caption 3 of 8", counted over the whole search. */
export function nameOf(search, node) {
  const same = search.nodes.filter((other) => other.stage === node.stage);
  return `${nounOf(search, node)} ${same.indexOf(node) + 1} of ${same.length}`;
}

function nounOf(search, node) {
  const kind = kindOf(search, node);
  return { part: "Part", whole: "Answer", stage: stageName(node.stage) }[kind];
}

/** Parts are of one stage and need no title. */
function titlesOf(search, { cells, columns }) {
  return Array.from({ length: columns }, (_, column) => {
    const [id] = [...cells].find(([, cell]) => cell.column === column);
    const noun = nounOf(search, search.nodes[id]);
    return noun === "Part" ? String(column + 1) : noun;
  });
}

function fill(button, search, node) {
  const state = standing(search, node);
  const answer = node.done ? answerOf(node) : "";
  const number = node.score === null ? (node.done ? "–" : "") : score(node.score);
  const spoken = node.score === null ? "no score" : `score ${score(node.score)}`;
  mark(button, "data-standing", state);
  mark(button, "aria-label", [nameOf(search, node), answer, spoken, SAID[state]].filter(Boolean).join(", "));
  say(button.firstChild, answer);
  say(button.lastChild, answer && node.score === null ? "" : number);
}

/** What a candidate that concludes answers, to be seen beside the others. */
const answerOf = (node) => sections(node.text).find((part) => part.stage === "CONCLUSION")?.text ?? "";

/** The id of the candidate that an arrow leads to. */
function neighbour({ search, plan }, id, key) {
  const { column, row } = plan.cells.get(id);
  const peers = [...plan.cells].filter(([, cell]) => cell.column === column).sort(([, a], [, b]) => a.row - b.row);
  switch (key) {
    case "ArrowLeft":
      return search.nodes[id].parent ?? undefined;
    case "ArrowRight":
      return search.nodes.find((node) => node.parent === id)?.id;
    case "ArrowUp":
      return peers.findLast(([, cell]) => cell.row < row)?.[0];
    case "ArrowDown":
      return peers.find(([, cell]) => cell.row > row)?.[0];
    case "Home":
      return 0;
    case "End":
      return [...plan.cells].at(-1)[0];
    default:
      return undefined;
  }
}

/** Those of the answer last, over the others. */
function edges({ search, plan, size }) {
  const drawn = search.nodes
    .filter((node) => node.parent !== null)
    .map((node) => ({
      d: edge(plan.cells.get(node.parent), plan.cells.get(node.id), size),
      kind: node.chosen ? "chosen" : node.void ? "retraced" : node.kept ? "kept" : "other",
    }));
  return [...drawn.filter(({ kind }) => kind !== "chosen"), ...drawn.filter(({ kind }) => kind === "chosen")];
}

function edge(from, to, size) {
  const [startX, startY] = [leftOf(from.column, size) + size.width, middleOf(from)];
  const [endX, endY] = [leftOf(to.column, size), middleOf(to)];
  if (startY === endY) return `M${startX} ${startY}H${endX}`;
  const turnX = startX + size.gap / 2;
  return (
    `M${startX} ${startY}H${turnX - BEND}Q${turnX} ${startY} ${turnX} ${startY + BEND}` +
    `V${endY - BEND}Q${turnX} ${endY} ${turnX + BEND} ${endY}H${endX}`
  );
}

function titleAt(title, column, size) {
  const node = element("span", {}, title);
  node.style.setProperty("left", `${leftOf(column, size)}px`);
  node.style.setProperty("width", `${size.width}px`);
  return node;
}

function turnAt({ column, row, number }, size) {
  const node = element("p", {}, `retrace ${number}`);
  node.style.setProperty("left", `${leftOf(column, size)}px`);
  node.style.setProperty("top", `${row * ROW}px`);
  return node;
}

function sizeFor(room, columns) {
  if (widthOf(columns, WIDE) <= room) return WIDE;
  const width = Math.floor((room + NARROW_GAP) / columns) - NARROW_GAP;
  return { width: Math.min(WIDE.width, Math.max(LEAST_WIDTH, width)), gap: NARROW_GAP, narrow: true };
}

const widthOf = (columns, { width, gap }) => columns * (width + gap) - gap;
const leftOf = (column, { width, gap }) => column * (width + gap);
const middleOf = ({ row }) => row * ROW + HEIGHT / 2;
