// The form: a question about a picture, and what is wrong with it.

import { find, mark, say } from "../dom.js";
import { choicesView } from "./choices.js";
import { wellView } from "./well.js";

const SAMPLE_QUESTION = "Remove all green objects. How many objects are left?";

const NO_PICTURE = "There is no picture yet: drop or paste one, or use the sample.";
const NO_QUESTION = "There is no question yet.";

/** The place in the form that a field of the request comes from. */
const PLACES = [
  [/^swires\.policy/, "policy"],
  [/^swires\.scorer/, "scorer"],
  [/image_url/, "well"],
  [/^messages/, "question"],
];

/** `onAsk` is called with what is asked, `onStop` and `onKey` when there is another key. */
export function formView({ onAsk, onStop, onKey }) {
  const [question, key, go, stop, problem] = ["question", "key", "go", "stop", "problem"].map(find);
  const choices = choicesView();
  const well = wellView({
    onError: complain,
    onPicture() {
      complain(null);
      question.focus();
    },
    onSample() {
      complain(null);
      question.value = SAMPLE_QUESTION;
      go.focus();
    },
  });

  function submit(event) {
    event.preventDefault();
    const text = question.value.trim();
    if (!well.image()) return complain(new Error(NO_PICTURE), "well");
    if (!text) return complain(new Error(NO_QUESTION), "question");
    complain(null);
    onAsk({ question: text, image: well.image() });
  }

  /** Says what went wrong, and leads to the place that it is about. */
  function complain(error, place = PLACES.find(([pattern]) => pattern.test(error?.param ?? ""))?.[1]) {
    for (const [, id] of PLACES) mark(find(id), "aria-invalid", Boolean(error) && id === place);
    mark(problem, "hidden", !error);
    say(problem, error?.message ?? "");
    if (error?.status === 401) mark(find("locked"), "hidden", false);
    const target = error?.status === 401 ? key : find(place === "well" ? "choose" : (place ?? ""));
    if (error) target?.focus();
  }

  function restore({ image, question: text, choice, greedy }) {
    complain(null);
    well.show(image);
    question.value = text;
    choices.restore(choice, greedy !== null);
  }

  function setRunning(running) {
    const hadFocus = [go, stop].includes(document.activeElement);
    mark(go, "hidden", running);
    mark(stop, "hidden", !running);
    if (hadFocus) (running ? stop : go).focus({ preventScroll: true });
  }

  find("ask").addEventListener("submit", submit);
  stop.addEventListener("click", onStop);
  key.addEventListener("change", onKey);
  question.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    find("ask").requestSubmit();
  });

  return { complain, restore, setRunning, choices, take: well.take, key: () => key.value };
}
