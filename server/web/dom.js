// Elements made of text and elements, never of HTML.

const SVG = "http://www.w3.org/2000/svg";

export const element = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

export const shape = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

export const find = (id) => document.getElementById(id);

/** Sets or removes an attribute; none where `value` is null, undefined or false. */
export function mark(node, name, value) {
  if (value === null || value === undefined || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value === true ? "" : value);
}

/** Leaves a node alone that says so already, for screen readers and for selected text. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) mark(node, name, value);
  node.append(...children.filter((child) => child !== null));
  return node;
}
