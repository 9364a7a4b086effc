// A search as a file: written, and read again with no trust in what it holds. Its `swires` object with the tree is that
// of the answer, which `swires rescore` reads too.

import { STAGES } from "./sections.js";

const VERSION = 1;
const MAX_CHARS = 64 * 2 ** 20;
const MAX_EVENTS = 20_000;
const MAX_CANDIDATES = 512;
const CHOICES = ["policy", "preset", "scorer"];
const IMAGE = /^data:image\/(png|jpeg|webp|gif);base64,[A-Za-z0-9+/]+={0,2}$/;

export class NotOurs extends Error {}

/** `shown` is `{question, image, choice, searched, greedy}`, the last two `{events, state, seconds}` or null. */
export function written({ question, image, choice, searched, greedy }) {
  const swires = searched.events.find((event) => event.event === "search_finished");
  return JSON.stringify({ playground: VERSION, question, image, choice, searched, greedy, swires }, null, 1);
}

/** What was `written`. Raises NotOurs with the field at fault. */
export function read(text) {
  const file = parsed(text);
  check(isObject(file) && "playground" in file, "it was not shared from this page");
  check(file.playground === VERSION, "it is of another version of this page");
  check(isText(file.question, 100_000), "question");
  check(typeof file.image === "string" && IMAGE.test(file.image), "image");
  check(isObject(file.choice) && CHOICES.every((name) => isText(file.choice[name], 100)), "choice");
  return {
    question: file.question,
    image: file.image,
    choice: file.choice,
    searched: run(file.searched, "searched"),
    greedy: file.greedy === null ? null : run(file.greedy, "greedy"),
  };
}

function parsed(text) {
  check(text.length <= MAX_CHARS, "it is too large");
  try {
    return JSON.parse(text);
  } catch {
    throw new NotOurs("it holds no JSON");
  }
}

function run(value, field) {
  check(isObject(value), field);
  const { events, state, seconds } = value;
  check(["finished", "stopped", "failed"].includes(state), `${field}.state`);
  check(isNumber(seconds), `${field}.seconds`);
  check(Array.isArray(events) && events.length <= MAX_EVENTS, `${field}.events`);
  const known = { stages: [] }; // of each candidate, in the order of their ids
  events.forEach((event, index) => {
    check(isObject(event) && isText(event.event, 100), `${field}.events[${index}]`);
    const isSound = Object.hasOwn(SOUND, event.event) && SOUND[event.event](event, known);
    check(isSound, `${field}.events[${index}]: ${event.event}`);
  });
  check(state !== "finished" || events.at(-1)?.event === "search_finished", `${field}.events`);
  return { events, state, seconds };
}

/** Whether an event is whole, and names only candidates that there are. */
const SOUND = {
  text: ({ text }) => isText(text),
  stage_started({ stage, parents, candidates }, known) {
    const isSound =
      isStage(stage) &&
      isCount(candidates) &&
      known.stages.length + candidates <= MAX_CANDIDATES &&
      Array.isArray(parents) &&
      parents.every((id) => isId(id, known)) &&
      candidates % Math.max(1, parents.length) === 0;
    if (isSound) known.stages.push(...Array(candidates).fill(stage));
    return isSound;
  },
  candidate_finished: ({ id, text, tokens, finish_reason: finish }, known) =>
    isId(id, known) && isText(text) && isCount(tokens) && isText(finish, 20),
  candidate_scored: ({ id, score }, known) => isId(id, known) && isNumber(score),
  stage_leading: ({ id, stage }, known) => isId(id, known) && known.stages[id] === stage,
  retraced: ({ to, void: stages }) => isStage(to) && Array.isArray(stages) && stages.every(isStage),
  stage_chosen: ({ id }, known) => isId(id, known),
  search_finished: ({ scorer, tokens, seconds, stages, accepted, scorer_degraded, stopped_by }) =>
    isText(scorer, 100) &&
    isObject(tokens) &&
    ["prompt", "winner", "discarded", "aborted", "scored"].every((name) => isCount(tokens[name])) &&
    isNumber(seconds) &&
    Array.isArray(stages) &&
    stages.every((part) => isStage(part?.stage) && isText(part.text) && isCount(part.tokens) && isScore(part.score)) &&
    [true, false, null].includes(accepted) &&
    [true, false].includes(scorer_degraded) &&
    (stopped_by === null || isText(stopped_by, 100)),
};

function check(isSound, message) {
  if (!isSound) throw new NotOurs(message);
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const isText = (value, most = 1_000_000) => typeof value === "string" && value.length <= most;
const isNumber = (value) => Number.isFinite(value);
const isCount = (value) => Number.isInteger(value) && value >= 0;
const isScore = (value) => value === null || isNumber(value);
const isStage = (value) => STAGES.includes(value);
const isId = (value, known) => isCount(value) && value < known.stages.length;
