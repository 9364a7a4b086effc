// One answer: its four stages as they fill, and what it has cost.

import { element, find, mark, say } from "../dom.js";
import { choiceName, count, counted, score, seconds, stageName } from "../format.js";
import { stages } from "../search.js";
import { STAGES } from "../sections.js";

const MEANT = {
  SUMMARY: "How the question will be gone about.",
  CAPTION: "What the picture shows, as far as it matters here.",
  REASONING: "From what was seen to what follows, step by step.",
  CONCLUSION: "The answer.",
};
const LIMITS = { generations: "candidates", tokens: "tokens", seconds: "time", load: "load" };

/** An empty answer in the page; `show` fills it with a run and, where there is one, the summary of its `rival`. */
export function answerView({ title }) {
  const heading = element("h2", {}, title);
  const parts = STAGES.map(stageView);
  const facts = element("dl", { class: "facts" });
  const bar = element("div", { class: "bar", "aria-hidden": "true" });
  const list = element("ol", { class: "stages" }, ...parts.map((part) => part.item));
  const root = element("article", { class: "answer" }, heading, list, bar, facts);
  find("answers").append(root);

  const show = ({ search, elapsed, rival }) => {
    stages(search).forEach((stage, index) => parts[index].show(stage, search));
    showFacts(facts, search, elapsed, rival);
    showBar(bar, search.summary?.tokens);
  };
  return { root, show, name: (text) => say(heading, text) };
}

function stageView(stage) {
  const meta = element("span", { class: "meta" });
  const text = element("p", { class: "text" }, MEANT[stage]);
  const header = element("div", { class: "stage-heading" }, element("h3", {}, stageName(stage)), meta);
  const item = element("li", { class: "stage", "data-state": "waiting", "data-stage": stage }, header, text);
  const show = (told, search) => {
    mark(item, "data-state", told.state);
    mark(item, "data-provisional", Boolean(told.text) && told.provisional);
    mark(item, "data-short", stage === "CONCLUSION" && told.text.length <= 40);
    mark(item, "data-empty", !told.text);
    say(text, told.text || MEANT[stage]);
    say(meta, metaOf(told, search));
  };
  return { item, show };
}

function metaOf({ state, count: candidates, done, score: value, provisional, text, retraces }, search) {
  const turns = retraces ? `${retraces === 1 ? "retraced once" : `retraced ${retraces} times`}` : "";
  const progress = state === "searching" ? progressOf(search) : "";
  const leads = provisional && text && search.state === "running" ? "leading so far" : "";
  const best = state === "chosen" && candidates > 1 ? `best of ${done}` : "";
  return [turns, progress, leads, best, value === null ? "" : score(value)].filter(Boolean).join(" · ");
}

function progressOf(search) {
  const { first, count: candidates } = search.rounds.at(-1);
  const done = search.nodes.slice(first).filter((node) => node.done).length;
  return `${done} of ${candidates}`;
}

function showFacts(list, search, elapsed, rival) {
  const facts = factsOf(search, elapsed, rival);
  while (list.children.length > facts.length) list.lastChild.remove();
  facts.forEach(([name, value, kind], index) => {
    const row = list.children[index] ?? list.appendChild(element("div", {}, element("dt"), element("dd")));
    mark(row.firstChild, "data-kind", kind);
    say(row.firstChild, name);
    say(row.lastChild, value);
  });
}

/** Rows of name, value and, where it is a part of the bar, which. */
function factsOf({ nodes, retraces, summary, state }, elapsed, rival) {
  if (!nodes.length) return [];
  const tokens = nodes.reduce((sum, node) => sum + node.tokens, 0);
  return [
    ["Time", seconds(summary?.seconds ?? elapsed)],
    ["Candidates", retraces ? `${nodes.length}, ${counted(retraces, "retrace")}` : count(nodes.length)],
    ...(summary ? shares(summary) : [["Tokens", count(tokens)]]),
    ...(summary && rival ? [["Against greedy", `${(cost(summary) / cost(rival)).toFixed(1)} times the tokens`]] : []),
    ...verdict(summary, state),
  ];
}

const cost = ({ tokens }) => tokens.winner + tokens.discarded + tokens.aborted + tokens.scored;

function shares({ tokens, scorer }) {
  const said = {
    winner: ["In the answer", counted(tokens.winner, "token")],
    discarded: ["Discarded", counted(tokens.discarded, "token")],
    aborted: ["Cut off", counted(tokens.aborted, "token")],
    scored: ["Scoring", `${counted(tokens.scored, "token")}, ${choiceName(scorer).toLowerCase()}`],
  };
  return Object.keys(said).filter((kind) => tokens[kind]).map((kind) => [...said[kind], kind]);
}

function verdict(summary, state) {
  if (state === "stopped") return [["Outcome", "stopped"]];
  if (!summary) return [];
  const said = [];
  if (summary.stopped_by) said.push(`ended by the limit of ${LIMITS[summary.stopped_by] ?? summary.stopped_by}`);
  if (summary.scorer_degraded) said.push("in part without scores");
  if (summary.accepted === true) said.push("good enough");
  if (summary.accepted === false) said.push("the best there was, not good enough");
  return said.length ? [["Outcome", said.join("; ")]] : [];
}

/** What share of the tokens is in the answer. */
function showBar(bar, tokens) {
  mark(bar, "hidden", !tokens);
  if (!tokens) return;
  const kinds = ["winner", "discarded", "aborted", "scored"].filter((kind) => tokens[kind]);
  bar.replaceChildren(...kinds.map((kind) => element("i", { "data-kind": kind })));
  kinds.forEach((kind, index) => bar.children[index].style.setProperty("flex-grow", tokens[kind]));
}
