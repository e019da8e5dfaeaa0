// Building blocks. Text reaches the page through text nodes and attributes only, never as markup.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const MISSING = "–";

/** An element: el("td", {class: "x", onclick: f}, "text", child, ...); null children are skipped. */
function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const isRank = (metric) => metric.endsWith("_rank");
const scaleOf = (metric) => (isRank(metric) ? 1 : 100);
const unitOf = (metric) => (isRank(metric) ? "" : " %");
const count = (number) => (typeof number === "number" ? number.toLocaleString("en") : String(number));
const short8 = (digest) => digest.slice(0, 8);

/** One decimal. Halves go to the even digit, as in the other formats: 44.25 is 44.2, where toFixed says 44.3. */
function oneDecimal(value) {
  const quarters = 4 * Math.abs(value); // halves of a tenth that a float can hold are odd quarters
  if (quarters % 4 !== 1) return value.toFixed(1);
  return (Math.sign(value) * (Math.abs(value) - 0.05)).toFixed(1);
}

/** A value as tables print it: percent, or a rank. */
const shown = (metric, value) => oneDecimal(scaleOf(metric) * value);
/** A value with all its digits, in the unit of tables; 15 leave out the noise of a float. */
const exact = (metric, value) => `${Number((scaleOf(metric) * value).toPrecision(15))}${unitOf(metric)}`;
/** As other formats print it: a share's interval without width, which is an older one, has the mark. */
const interval = (metric, [, low, high]) =>
  `[${shown(metric, low)}, ${shown(metric, high)}]${low === high && !isRank(metric) ? "†" : ""}`;

/** The [value, low, high, n] of a result, or null where it lacks the metric. */
function valueOf(result, metric) {
  return result.values[data.groups[result.group].metrics.indexOf(metric)] || null;
}

const shortName = (group, metric) => group.short[group.metrics.indexOf(metric)] ?? metric;

/** The results that a ranking may use: measured on all of their data; of several results of one row the last. */
function resultsOf(group, limited = false) {
  const rows = new Map();
  for (const result of data.results) {
    if (result.group === group && (result.limit !== null) === limited) rows.set(result.row, result);
  }
  return [...rows.values()];
}

/** A section of the page with a heading that the list of contents leads to; shown only when `put` is called. */
const contents = el("ul");
function section(id, title, ...children) {
  const heading = el("h2", { id: `${id}-title` }, title);
  contents.append(el("li", {}, el("a", { href: `#${id}` }, title)));
  return el("section", { id, "aria-labelledby": `${id}-title` }, heading, ...children);
}

/** What scrolls sideways inside, so that the page does not; reachable by keyboard. */
function scroller(label, ...children) {
  return el("div", { class: "scroller", role: "region", "aria-label": label, tabindex: "0" }, ...children);
}

/** A labelled choice; `options` are [value, text]. */
function choice(label, options, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) });
  for (const [value, text] of options) select.append(el("option", { value }, text));
  return { node: el("label", { class: "field" }, el("span", {}, label), select), select };
}

/** A labelled box to type in. */
function search(label, placeholder, oninput) {
  const input = el("input", { type: "search", placeholder, autocomplete: "off", spellcheck: "false" });
  input.addEventListener("input", () => oninput(input.value));
  return { node: el("label", { class: "field" }, el("span", {}, label), input), input };
}

/** Every word of `wanted` is somewhere in `text`. */
function matches(text, wanted) {
  const low = text.toLowerCase();
  return wanted
    .toLowerCase()
    .split(/\s+/)
    .every((word) => low.includes(word));
}

const replaceIn = (container, ...children) => container.replaceChildren(...children.flat());
