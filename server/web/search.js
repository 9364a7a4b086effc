// A search as its events tell it: a fold over frozen values, so that a stored search is seen as it was.

import { sections, STAGES } from "./sections.js";

/** `nodes` by id, in the order in which they were asked for; a round is one expansion, a `turn` where it follows a
 * retrace. */
export const EMPTY = Object.freeze({
  state: "running", // then finished, stopped or failed
  rounds: [],
  nodes: [],
  leading: {},
  text: "",
  retraces: 0,
  voided: {}, // by stage, how often it was gone back over
  summary: null,
});

const STEPS = {
  text: (search, { text }) => ({ ...search, text: search.text + text }),

  stage_started(search, { stage, parents, candidates }) {
    const turn = search.rounds.filter((round) => round.turn).length < search.retraces;
    const round = { stage, parents, first: search.nodes.length, count: candidates, turn };
    const family = new Set(parents.flatMap((id) => path(search, search.nodes[id]).map((node) => node.id)));
    const nodes = search.nodes.map((node) =>
      family.has(node.id) ? { ...node, void: false, kept: node.kept || parents.includes(node.id) } : node,
    );
    return { ...search, rounds: [...search.rounds, round], nodes: [...nodes, ...seedlings(search, round)] };
  },

  candidate_finished: (search, { id, text, tokens, finish_reason: finish }) =>
    changed(search, id, { text, tokens, finish, done: true }),

  candidate_scored: (search, { id, score }) => changed(search, id, { score }),

  stage_leading: (search, { id, stage }) => ({ ...search, leading: { ...search.leading, [stage]: id } }),

  retraced(search, { void: stages }) {
    const kept = Object.entries(search.leading).filter(([stage]) => !stages.includes(stage));
    const voided = Object.fromEntries(stages.map((stage) => [stage, (search.voided[stage] ?? 0) + 1]));
    return {
      ...search,
      retraces: search.retraces + 1,
      voided: { ...search.voided, ...voided },
      leading: Object.fromEntries(kept),
      nodes: search.nodes.map((node) => (stages.includes(node.stage) ? { ...node, void: true } : node)),
    };
  },

  stage_chosen: (search, { id }) => changed(search, id, { chosen: true, void: false }),

  search_finished: (search, { event, ...summary }) => ({ ...search, state: "finished", summary }),
};

/** What a newer server tells beyond this changes nothing. */
export const step = (search, event) => STEPS[event.event]?.(search, event) ?? search;

export const ended = (search, state) => (search.state === "running" ? { ...search, state } : search);

export const replayed = (events) => events.reduce(step, EMPTY);

/** From the first stage to `node`. */
export function path(search, node) {
  return node.parent === null ? [node] : [...path(search, search.nodes[node.parent]), node];
}

/** chosen, growing, cut, retraced, kept, leading, dropped, or open where nothing is decided. */
export function standing(search, node) {
  if (node.chosen) return "chosen";
  if (!node.done) return search.state === "running" ? "growing" : "cut";
  if (node.void) return "retraced";
  if (node.kept) return "kept";
  if (node.finish !== "stop") return "cut";
  if (passedOver(search, node)) return "dropped";
  return search.leading[node.stage] === node.id ? "leading" : "open";
}

/** What a candidate is: of its stage, a whole answer, or a part of one where a stage is continued within itself. */
export function kindOf({ nodes }, { stage }) {
  const same = nodes.filter((node) => node.stage === stage);
  if (same.some(({ parent }) => nodes[parent]?.stage === stage)) return "part";
  return stage !== STAGES[0] && same.some(({ parent }) => parent === null) ? "whole" : "stage";
}

/** The four stages: `{stage, state, text, provisional, score, count, done, retraces}`; state is waiting, searching,
 * writing or chosen. */
export function stages(search) {
  const settled = byStage(sections(search.text, { whole: search.state === "finished" }));
  const leading = byStage(leadingSections(search));
  return STAGES.map((stage) => {
    const own = search.nodes.filter((node) => node.stage === stage);
    const told = search.summary?.stages.filter((part) => part.stage === stage) ?? [];
    return {
      stage,
      state: stateOf(search, stage, settled.get(stage)),
      text: settled.get(stage)?.text ?? leading.get(stage)?.text ?? "",
      provisional: !settled.has(stage),
      score: told.at(-1)?.score ?? null,
      count: own.length && kindOf(search, own[0]) !== "part" ? own.length : 0,
      done: own.filter((node) => node.done).length,
      retraces: search.voided[stage] ?? 0,
    };
  });
}

function stateOf(search, stage, settled) {
  if (settled) return settled.closed || search.state === "finished" ? "chosen" : "writing";
  if (search.state !== "running") return "waiting";
  return search.rounds.at(-1)?.stage === stage ? "searching" : "waiting";
}

function leadingSections(search) {
  const ids = STAGES.map((stage) => search.leading[stage]).filter((id) => id !== undefined);
  const texts = ids.map((id) => path(search, search.nodes[id]).map((node) => node.text).join(""));
  return texts.flatMap((text) => sections(text, { whole: true }));
}

/** A stage that comes again is one text. */
function byStage(parts) {
  const found = new Map();
  for (const part of parts) {
    const before = found.get(part.stage);
    found.set(part.stage, before && before.text !== part.text ? joined(before, part) : part);
  }
  return found;
}

const joined = (before, part) => ({ ...part, text: `${before.text}\n\n${part.text}` });

function seedlings(search, round) {
  const samples = round.count / Math.max(1, round.parents.length);
  return Array.from({ length: round.count }, (_, index) => ({
    id: round.first + index,
    parent: round.parents[Math.floor(index / samples)] ?? null,
    stage: round.stage,
    round: search.rounds.length,
    text: "",
    tokens: 0,
    finish: null,
    score: null,
    done: false,
    kept: false,
    void: false,
    chosen: false,
  }));
}

function changed(search, id, change) {
  return { ...search, nodes: search.nodes.map((node) => (node.id === id ? { ...node, ...change } : node)) };
}

function passedOver(search, node) {
  const later = search.rounds.slice(node.round + 1);
  const isBeyond = (round) => STAGES.indexOf(round.stage) > STAGES.indexOf(node.stage);
  const takesSibling = (round) => round.parents.some((id) => search.nodes[id].round === node.round);
  return search.state === "finished" || later.some((round) => isBeyond(round) || takesSibling(round));
}
