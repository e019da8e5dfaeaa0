// How a number was measured: one dialog, opened by every number. Escape closes it and returns the focus.

const dialogBody = el("div", { class: "dialog-body" });
const dialogTitle = el("h2", { id: "dialog-title" });
const dialog = el(
  "dialog",
  { "aria-labelledby": "dialog-title", class: "provenance" },
  el(
    "div",
    { class: "dialog-head" },
    dialogTitle,
    el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "×"),
  ),
  dialogBody,
);
// The target of a click beside the dialog is the dialog element itself, since its content fills it.
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

let opener = null;
dialog.addEventListener("close", () => {
  if (opener?.isConnected) opener.focus();
  opener = null;
});

function openDialog(title, kind, ...children) {
  opener = document.activeElement;
  dialog.className = kind;
  dialogTitle.textContent = title;
  replaceIn(dialogBody, ...children.filter(Boolean));
  dialog.showModal();
  dialogBody.scrollTop = 0;
}

/** A number as a button that opens the dialog. */
function numberButton(text, label, open, className = "") {
  return el(
    "button",
    { type: "button", class: `number ${className}`.trim(), "aria-label": label, onclick: open },
    text,
  );
}

/** Names and values; values that are objects become lists of their own. */
function facts(pairs) {
  const list = el("dl");
  for (const [name, value] of pairs) {
    if (value === null || value === undefined || value === "") continue;
    const isObject = typeof value === "object" && !Array.isArray(value);
    if (isObject && !Object.keys(value).length) continue;
    const text = Array.isArray(value)
      ? value.map(String).join(", ")
      : typeof value === "number"
        ? count(value)
        : String(value);
    list.append(el("dt", {}, name), el("dd", {}, isObject ? facts(Object.entries(value)) : text));
  }
  return list;
}

const block = (title, pairs) => el("div", { class: "facts" }, el("h3", {}, title), facts(pairs));

/** A text about one number: model, benchmark, metric, value and interval. */
function statement(metric, name, values) {
  const [value, , , n] = values;
  return el(
    "p",
    { class: "statement" },
    el("strong", {}, `${shown(metric, value)}${unitOf(metric)}`),
    ` ${name}, 95 % interval ${interval(metric, values)}, from ${count(n)} samples; unrounded ${exact(metric, value)}`,
  );
}

const SHOWN_TEMPLATES = 10;
/** How many classes a benchmark has and the prompts that stand for them; the first templates of a long list. */
function promptFacts({ names, templates }) {
  const more = templates.length - SHOWN_TEMPLATES;
  const listed = templates.slice(0, SHOWN_TEMPLATES).join("; ");
  return block("Classes", [
    ["classes", names.length],
    ["templates", more > 0 ? `${listed}; and ${count(more)} more` : listed],
  ]);
}

/** Everything about one metric of one result, or about the `name` and `values` of one of its classes. */
function openResult(result, metric, { name, values } = {}) {
  const group = data.groups[result.group];
  const { spec, digest, label, ...rest } = data.records[result.record];
  const { packages, hardware, ...system } = data.environments[result.environment];
  const { seconds, started, ...options } = result.timing;
  const limited = result.limit === null ? null : `first ${count(result.limit)} samples only; never ranked`;
  openDialog(
    `${data.models[result.row].label}, ${group.title}`,
    "provenance",
    statement(metric, name ?? shortName(group, metric), values ?? valueOf(result, metric)),
    ...result.warnings.map((warning) => el("p", { class: "warning" }, warning)),
    block("Model", [
      ["spec", spec],
      ["label", label],
      ["digest", digest || "none: never cached"],
      ...Object.entries(rest),
    ]),
    block("Protocol", [
      ["benchmark", group.name],
      ["task", group.task],
      ["version", group.version],
      ["fingerprint", group.fingerprint],
      ["metric", metric],
      ["limit", limited],
    ]),
    group.classes ? promptFacts(group.classes) : null,
    block("Data", [
      ["fingerprint", group.dataset],
      ["n", result.n],
      ["expected", result.expected],
    ]),
    block("Measurement", [
      ["precision", result.precision],
      ["started", started],
      ["seconds", seconds],
      ...Object.entries(options),
      ...Object.entries(system),
      ["hardware", hardware],
      ["packages", packages],
    ]),
    block("File", [
      ["result", result.path],
      ["samples", result.samples.rows],
      ["SHA-256 of samples.parquet", result.samples.sha256],
    ]),
  );
}

/** The button of one metric of one result. */
function resultButton(result, metric, className = "") {
  const group = data.groups[result.group];
  const values = valueOf(result, metric);
  const text = shown(metric, values[0]);
  const description = `${data.models[result.row].label}, ${group.title} ${shortName(group, metric)}`;
  const label = `${text}${unitOf(metric)}, ${description}: how it was measured`;
  return numberButton(text, label, () => openResult(result, metric), className);
}

/** The button of one class of one result; `values` are its [value, low, high, n]. */
function classButton(result, index, values) {
  const group = data.groups[result.group];
  const { metric, title, names } = group.classes;
  const text = shown(metric, values[0]);
  const name = `${title} of ${names[index]}`;
  const label = `${text} %, ${data.models[result.row].label}, ${name}: how it was measured`;
  const button = numberButton(text, label, () => openResult(result, metric, { name, values }), "meter");
  button.style.setProperty("--part", `${100 * values[0]}%`);
  return button;
}

// Open details close with Escape, too, and give the focus back to what opened them.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || dialog.open) return;
  const open = document.activeElement?.closest("details[open]");
  if (!open) return;
  open.open = false;
  open.querySelector("summary").focus();
});
