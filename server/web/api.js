// The server's API as the page uses it; every failure is a Failure with a sentence for the user.

import { BrokenStream, events, texts } from "./stream.js";

export class Failure extends Error {
  constructor(message, { status = 0, param = null, partial = false } = {}) {
    super(message);
    Object.assign(this, { status, param, partial });
  }
}

const UNREACHABLE = "The server cannot be reached. Is it still running?";
const OFFLINE = "This device is offline.";
const BROKEN = "The connection broke off before the search was over.";

/** What the server offers: `{model, policy, preset, policies, presets, scorers}`. */
export async function offers(key) {
  const response = await send("v1/models", { headers: headers(key) });
  const { data, swires } = await response.json();
  return { model: data[0].id, ...swires };
}

/** The events of a search; text that is final comes as `{event: "text", text}`. */
export async function* search(body, { key, signal }) {
  const options = { method: "POST", headers: headers(key), body: JSON.stringify(body), signal };
  const response = await send("v1/chat/completions", options);
  try {
    for await (const chunk of events(texts(response))) {
      if (chunk.error) throw new Failure(`The search failed: ${chunk.error.message}.`, { partial: true });
      const text = chunk.choices[0]?.delta.content;
      if (text) yield { event: "text", text };
      if (chunk.swires) yield chunk.swires;
    }
  } catch (error) {
    throw translated(error, signal);
  }
}

/** The body of a request that is watched: `raw` tells the stages apart, `trace` makes the answer whole for a file. */
export function request({ model, image, question, choice }) {
  const content = [
    { type: "image_url", image_url: { url: image } },
    { type: "text", text: question },
  ];
  const swires = { ...choice, events: true, raw: true, trace: true };
  return { model, messages: [{ role: "user", content }], stream: true, swires };
}

function headers(key) {
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(navigator.onLine ? UNREACHABLE : OFFLINE);
  }
  if (response.ok) return response;
  throw await refusal(response);
}

async function refusal(response) {
  const error = (await response.json().catch(() => null))?.error ?? {};
  const said = sentence(error.message ?? `the server answered ${response.status}`, error.param);
  const wait = response.headers.get("Retry-After");
  const message = wait ? `${said} Try again in ${wait} s.` : said;
  return new Failure(message, { status: response.status, param: error.param ?? null });
}

function translated(error, signal) {
  if (signal.aborted || error instanceof Failure) return error;
  if (error instanceof BrokenStream || error instanceof TypeError || error instanceof SyntaxError) {
    return new Failure(navigator.onLine ? BROKEN : OFFLINE, { partial: true });
  }
  return error;
}

/** Without the name of the field, which is marked in the form. */
function sentence(text, param) {
  const bare = text.startsWith(`${param}: `) ? text.slice(param.length + 2) : text;
  return `${bare.charAt(0).toUpperCase()}${bare.slice(1).replace(/\.$/, "")}.`;
}
