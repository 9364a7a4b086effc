// How hard to search and in which way, of what the server offers.

import { element, find, mark, say } from "../dom.js";
import { choiceName } from "../format.js";

const EFFORTS = { fast: "a few candidates", balanced: "the usual", thorough: "many, and patient" };

const POLICIES = {
  swires: "Captions and reasonings side by side; where no reasoning is good enough, back for new captions.",
  adaptive: "One of each, and more only where it is not good enough.",
  stage_beam: "Several at each stage, of which the best go on.",
  sentence_beam: "Sentence by sentence, each the better of several.",
  best_of_n: "Several whole answers, of which the best is taken.",
  greedy: "One answer without a search.",
};

export function choicesView() {
  const [presets, policy, scorer, compare] = ["presets", "policy", "scorer", "compare"].map(find);
  let offered = null;

  function offer(offers) {
    offered = offers;
    presets.append(...offers.presets.map((preset) => radio(preset, preset === offers.preset)));
    policy.replaceChildren(...offers.policies.map(option));
    scorer.replaceChildren(...Object.keys(offers.scorers).map(option));
    policy.value = offers.policy;
    fit();
  }

  /** A scorer that does not serve the policy cannot be chosen, nor can anything where there is no search. */
  function fit() {
    if (!offered) return;
    say(find("policy-note"), POLICIES[policy.value] ?? "");
    for (const each of scorer.options) mark(each, "disabled", !offered.scorers[each.value].includes(policy.value));
    if (scorer.selectedOptions[0]?.disabled) scorer.value = [...scorer.options].find((each) => !each.disabled)?.value;
    for (const each of [presets, scorer, compare]) mark(each, "disabled", policy.value === "greedy");
  }

  function restore(choice, compares) {
    compare.checked = compares;
    for (const each of presets.querySelectorAll("input")) each.checked ||= each.value === choice.preset;
    for (const [select, name] of [[policy, choice.policy], [scorer, choice.scorer]]) {
      if ([...select.options].some((each) => each.value === name)) select.value = name;
    }
    fit();
  }

  policy.addEventListener("change", fit);

  return {
    offer,
    restore,
    areOffered: () => offered !== null,
    compares: () => compare.checked && !compare.disabled,
    choice: () => ({ policy: policy.value, preset: presets.querySelector(":checked").value, scorer: scorer.value }),
  };
}

const option = (name) => element("option", { value: name }, choiceName(name));

function radio(preset, checked) {
  const input = element("input", { type: "radio", name: "preset", value: preset, checked });
  return element("label", { title: EFFORTS[preset] }, input, element("span", {}, choiceName(preset)));
}
