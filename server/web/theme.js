// Light or dark: as the system has it, until the button says otherwise.

import { mark, say } from "./dom.js";

export function themeButton(button) {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;

  const isDark = () => chosen ?? system.matches;
  function show() {
    mark(document.documentElement, "data-theme", chosen === null ? null : chosen ? "dark" : "light");
    say(button, isDark() ? "Light" : "Dark");
  }

  button.addEventListener("click", () => {
    chosen = !isDark();
    show();
  });
  system.addEventListener("change", show);
  show();
}
