// The page: what is asked, the searches under way, and what is shown of them.

import { offers, request, search as ask } from "./api.js";
import { find, mark, say } from "./dom.js";
import { choiceName, counted, stageName } from "./format.js";
import { isImage } from "./picture.js";
import { EMPTY, ended, replayed, stages, step } from "./search.js";
import { NotOurs, read, written } from "./share.js";
import { themeButton } from "./theme.js";
import { answerView } from "./views/answer.js";
import { formView } from "./views/form.js";
import { readerView } from "./views/reader.js";
import { treeView } from "./views/tree.js";

const TICK_MS = 100;
const KEEP_FILE_MS = 60_000;
const STACKED = matchMedia("(max-width: 779px)"); // as in page.css

let model = null;
let stopping = null; // aborts what runs
let selected = null;
let asked = null; // the question, picture and choice that the runs are of
let runs = { searched: idle(), greedy: null };

const form = formView({ onAsk, onStop: () => stopping?.abort(), onKey: start });
const views = { searched: answerView({ title: "Answer" }), greedy: answerView({ title: "Greedy" }) };
const tree = treeView({ onSelect: select });
const reader = readerView({ onClose: () => select(null) });

/** A run is its events and what they come to. */
function idle() {
  return { search: { ...EMPTY, state: "idle" }, events: [], elapsed: 0 };
}

async function start() {
  try {
    const offered = await offers(form.key());
    model = offered.model;
    say(find("model"), model);
    if (!form.choices.areOffered()) form.choices.offer(offered);
    form.complain(null);
  } catch (error) {
    form.complain(error);
  }
}

async function onAsk(question) {
  if (!form.choices.areOffered()) await start();
  if (!form.choices.areOffered() || stopping) return;
  asked = { ...question, choice: form.choices.choice() };
  stopping = new AbortController();
  selected = null;
  runs = { searched: begun(), greedy: form.choices.compares() ? begun() : null };
  form.setRunning(true);
  if (STACKED.matches) find("answers").scrollIntoView();
  const ticking = setInterval(show, TICK_MS);
  await Promise.all(Object.keys(runs).filter((name) => runs[name]).map(follow));
  clearInterval(ticking);
  stopping = null;
  form.setRunning(false);
  show();
}

const begun = () => ({ search: EMPTY, events: [], elapsed: 0, since: performance.now() });

async function follow(name) {
  const choice = name === "greedy" ? { policy: "greedy" } : asked.choice;
  try {
    const body = request({ model, ...asked, choice });
    for await (const event of ask(body, { key: form.key(), signal: stopping.signal })) take(name, event);
    end(name, "failed");
  } catch (error) {
    end(name, stopping.signal.aborted ? "stopped" : "failed");
    if (!stopping.signal.aborted) form.complain(error);
  }
}

function take(name, event) {
  const run = runs[name];
  run.events.push(event);
  run.search = step(run.search, event);
  schedule();
}

/** Of a search that is finished already, it changes nothing. */
function end(name, state) {
  const run = runs[name];
  run.elapsed = elapsed(run);
  run.since = null;
  run.search = ended(run.search, state);
}

const elapsed = (run) => (run.since ? (performance.now() - run.since) / 1000 : run.elapsed);

let scheduled = false;

function schedule() {
  if (!scheduled) requestAnimationFrame(show);
  scheduled = true;
}

function show() {
  scheduled = false;
  const { searched, greedy } = runs;
  views.searched.name(asked ? titleOf(asked.choice) : "Answer");
  mark(views.greedy.root, "hidden", !greedy);
  mark(document.body, "data-comparing", Boolean(greedy));
  for (const name of ["searched", "greedy"]) {
    if (!runs[name]) continue;
    const rival = name === "searched" ? greedy?.search.summary : null;
    views[name].show({ search: runs[name].search, elapsed: elapsed(runs[name]), rival });
  }
  tree.show(searched.search, selected);
  reader(searched.search, selected);
  say(find("status"), statusOf(searched.search));
  mark(find("share"), "disabled", Boolean(stopping) || !searched.events.length);
}

const titleOf = ({ policy, preset }) => choiceName(policy) + (policy === "greedy" ? "" : `, ${preset}`);

/** What a screen reader is told, and no more often than it changes. */
function statusOf(search) {
  switch (search.state) {
    case "running": {
      const round = search.rounds.at(-1);
      if (!round) return "Waiting for the server";
      const turn = round.turn ? `Retrace ${search.retraces}: ` : "";
      return `${turn}${stageName(round.stage)}, ${counted(round.count, "candidate")}`;
    }
    case "finished":
      return `Answer: ${stages(search).at(-1).text || "none"}`;
    case "stopped":
      return "Stopped";
    case "failed":
      return search.rounds.length ? "Broken off" : "";
    default:
      return "";
  }
}

function select(id) {
  selected = id;
  show();
}

function share() {
  const stored = (run) => run && { events: run.events, state: run.search.state, seconds: run.elapsed };
  const text = written({ ...asked, searched: stored(runs.searched), greedy: stored(runs.greedy) });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = "swires-search.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), KEEP_FILE_MS); // the browser may take its time
}

async function open(file) {
  if (stopping) return;
  try {
    const { searched, greedy, ...question } = read(await file.text());
    asked = question;
    selected = null;
    runs = { searched: restored(searched), greedy: greedy && restored(greedy) };
    form.restore({ ...question, greedy });
    show();
  } catch (error) {
    if (!(error instanceof NotOurs)) throw error;
    form.complain(new Error(`${file.name} cannot be opened: ${error.message}.`));
  }
}

const restored = ({ events, state, seconds }) => ({
  search: ended(replayed(events), state),
  events,
  elapsed: seconds,
  since: null,
});

function drop(event) {
  event.preventDefault();
  mark(document.body, "data-dragging", false);
  const [file] = event.dataTransfer.files;
  if (file) (isImage(file) ? form.take : open)(file);
}

function escape({ key }) {
  if (key !== "Escape") return;
  if (stopping) stopping.abort();
  else select(null);
}

function listen() {
  find("share").addEventListener("click", share);
  find("open").addEventListener("click", () => find("file").click());
  find("file").addEventListener("change", ({ target }) => {
    if (target.files[0]) open(target.files[0]);
    target.value = "";
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(document.body, "data-dragging", true);
  });
  document.addEventListener("dragleave", (event) => event.relatedTarget ?? mark(document.body, "data-dragging", false));
  document.addEventListener("drop", drop);
  document.addEventListener("keydown", escape);
}

themeButton(find("theme"));
listen();
show();
start();
