// The picture of the question: chosen, dropped, pasted, or the sample.

import { find, mark, say } from "../dom.js";
import { isImage, load, sample } from "../picture.js";

const SMALL_PX = 160; // shown larger, its pixels sharp

/** `onPicture` is called when there is another one, `onSample` when it is the sample, `onError` when a file is none. */
export function wellView({ onPicture, onSample, onError }) {
  const preview = find("preview");
  let image = "";

  function show(url) {
    image = url;
    preview.src = url;
    mark(preview, "hidden", false);
    mark(find("invitation"), "hidden", true);
    mark(find("well"), "data-filled", true);
    say(find("choose"), "Another picture");
  }

  async function take(file) {
    try {
      show(await load(file));
      onPicture();
    } catch (error) {
      onError(error);
    }
  }

  async function takeSample() {
    try {
      show(await sample());
      onSample();
    } catch (error) {
      onError(error);
    }
  }

  preview.addEventListener("load", () => mark(preview, "data-small", preview.naturalWidth < SMALL_PX));
  find("choose").addEventListener("click", () => find("picture").click());
  find("picture").addEventListener("change", ({ target }) => target.files[0] && take(target.files[0]));
  find("sample").addEventListener("click", takeSample);
  document.addEventListener("paste", ({ clipboardData }) => {
    const file = [...clipboardData.files].find(isImage);
    if (file) take(file);
  });

  return { show, take, image: () => image };
}
