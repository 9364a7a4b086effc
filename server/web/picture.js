// The picture of the question: chosen, dropped or pasted, kept as a data URL.

/** The data URL of a file. Rejects with a sentence where the browser cannot show it as an image. */
export async function load(file) {
  const url = await new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error(`${file.name} cannot be read.`));
    reader.readAsDataURL(file);
  });
  const image = new Image();
  image.src = url;
  await image.decode().catch(() => {
    throw new Error(`${file.name || "This"} is not an image that this browser can show.`);
  });
  return url;
}

export async function sample() {
  const blob = await (await fetch("web/sample.png")).blob();
  return load(new File([blob], "sample.png", { type: "image/png" }));
}

export const isImage = (file) => file.type.startsWith("image/");
