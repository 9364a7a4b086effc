// The form: a picture, a question, and how hard to search.

import { element, find, mark, say } from "../dom.js";
import { choiceName } from "../format.js";
import { isImage, load, sample } from "../picture.js";

const SAMPLE_QUESTION = "Remove all green objects. How many objects are left?";

const SMALL_PX = 160; // shown larger, its pixels sharp

const EFFORTS = { fast: "a few candidates", balanced: "the usual", thorough: "many, and patient" };

const POLICIES = {
  swires: "Captions and reasonings side by side; when no reasoning is good enough, the search goes back for new captions.",
  adaptive: "One of each, and more only where it is not good enough.",
  stage_beam: "Several at each stage, of which the best go on.",
  sentence_beam: "Sentence by sentence, each the better of several.",
  best_of_n: "Several whole answers, of which the best is taken.",
  greedy: "One answer without a search.",
};

/** The field of the form that a field of the request comes from. */
const FIELDS = [
  [/^swires\.policy/, "policy"],
  [/^swires\.scorer/, "scorer"],
  [/image_url/, "well"],
  [/^messages/, "question"],
];

export function formView({ onAsk, onStop, onChange }) {
  const fields = Object.fromEntries(
    ["ask", "well", "preview", "invitation", "question", "presets", "policy", "scorer", "compare", "key", "go", "stop"].map(
      (id) => [id, find(id)],
    ),
  );
  let image = "";
  let offered = null;

  const picture = (url) => {
    image = url;
    fields.preview.src = url;
    mark(fields.preview, "hidden", false);
    mark(fields.invitation, "hidden", true);
    mark(fields.well, "data-filled", true);
    say(find("choose"), "Another picture");
    complain(null);
  };

  async function take(file) {
    try {
      picture(await load(file));
      fields.question.focus();
    } catch (error) {
      complain(error);
    }
  }

  async function takeSample() {
    picture(await sample());
    fields.question.value = SAMPLE_QUESTION;
    fields.go.focus();
  }

  function submit(event) {
    event.preventDefault();
    if (!image) return complain(new Error("There is no picture yet: drop one, paste one or use the sample."), "well");
    if (!fields.question.value.trim()) return complain(new Error("There is no question yet."), "question");
    complain(null);
    onAsk();
  }

  /** Says what went wrong, and marks the field that it is about. */
  function complain(error, field = FIELDS.find(([pattern]) => pattern.test(error?.param ?? ""))?.[1]) {
    for (const id of ["well", "question", "policy", "scorer"]) mark(fields[id], "aria-invalid", id === field && Boolean(error));
    mark(find("problem"), "hidden", !error);
    say(find("problem"), error?.message ?? "");
    if (error?.status === 401) unlock();
    else if (error && field) (field === "well" ? find("choose") : fields[field]).focus();
  }

  function unlock() {
    mark(find("locked"), "hidden", false);
    fields.key.focus();
  }

  function offer(offers) {
    offered = offers;
    fields.presets.append(...offers.presets.map((preset) => radio(preset, preset === offers.preset)));
    fields.policy.replaceChildren(...offers.policies.map(option));
    fields.scorer.replaceChildren(...Object.keys(offers.scorers).map(option));
    fields.policy.value = offers.policy;
    fit();
  }

  /** A scorer that does not serve the policy cannot be chosen. */
  function fit() {
    if (!offered) return;
    const policy = fields.policy.value;
    say(find("policy-note"), POLICIES[policy] ?? "");
    for (const each of fields.scorer.options) each.disabled = !offered.scorers[each.value].includes(policy);
    if (fields.scorer.selectedOptions[0]?.disabled) {
      fields.scorer.value = [...fields.scorer.options].find((each) => !each.disabled)?.value ?? "";
    }
    const searches = policy !== "greedy";
    for (const each of [fields.scorer, fields.compare, fields.presets]) each.disabled = !searches;
  }

  const choice = () => ({
    policy: fields.policy.value,
    preset: fields.presets.querySelector(":checked").value,
    scorer: fields.scorer.value,
  });

  function restore({ image: url, question, choice: chosen, greedy }) {
    picture(url);
    fields.question.value = question;
    fields.compare.checked = greedy !== null;
    for (const each of fields.presets.querySelectorAll("input")) each.checked ||= each.value === chosen.preset;
    for (const name of ["policy", "scorer"]) {
      if ([...fields[name].options].some((each) => each.value === chosen[name])) fields[name].value = chosen[name];
    }
    fit();
  }

  function setRunning(running) {
    const had = [fields.go, fields.stop].includes(document.activeElement);
    mark(fields.go, "hidden", running);
    mark(fields.stop, "hidden", !running);
    if (had) (running ? fields.stop : fields.go).focus();
  }

  fields.ask.addEventListener("submit", submit);
  fields.preview.addEventListener("load", () => mark(fields.preview, "data-small", fields.preview.naturalWidth < SMALL_PX));
  fields.stop.addEventListener("click", onStop);
  fields.policy.addEventListener("change", fit);
  fields.key.addEventListener("change", onChange);
  find("choose").addEventListener("click", () => find("picture").click());
  find("picture").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
  find("sample").addEventListener("click", takeSample);
  fields.question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    fields.ask.requestSubmit();
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(isImage);
    if (file) take(file);
  });

  return {
    choice,
    complain,
    offer,
    restore,
    setRunning,
    take,
    get hasOffers() {
      return offered !== null;
    },
    get image() {
      return image;
    },
    get question() {
      return fields.question.value.trim();
    },
    get compares() {
      return fields.compare.checked && !fields.compare.disabled;
    },
    get key() {
      return fields.key.value;
    },
  };
}

const option = (name) => element("option", { value: name }, choiceName(name));

function radio(preset, checked) {
  const input = element("input", { type: "radio", name: "preset", value: preset, checked });
  return element("label", { title: EFFORTS[preset] }, input, element("span", {}, choiceName(preset)));
}
