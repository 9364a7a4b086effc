// Numbers and names as the page shows them.

const NAMES = {
  swires: "SWIRES",
  adaptive: "Adaptive",
  stage_beam: "Stage beam",
  sentence_beam: "Sentence beam",
  best_of_n: "Best of N",
  greedy: "Greedy",
};

const whole = new Intl.NumberFormat("en", { useGrouping: true });

/** `+1.31`, in standard deviations from the scorer's usual. */
export const score = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;

export const count = (number) => whole.format(number);

export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

export const seconds = (value) => `${value.toFixed(value < 10 ? 1 : 0)} s`;

export const stageName = (stage) => stage.charAt(0) + stage.slice(1).toLowerCase();

/** `stage_beam` as "Stage beam"; a name that is not known here in the same manner. */
export const choiceName = (name) => NAMES[name] ?? (name.charAt(0).toUpperCase() + name.slice(1)).replaceAll("_", " ");
