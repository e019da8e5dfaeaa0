// The page: heading, contents, theme, the sections in their order, and what is left out.

const STORED = "cosmos-eval theme";

/** A button that switches between light and dark; the system setting holds until it is pressed. */
function themeButton() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const button = el("button", { type: "button", class: "theme" });
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  function show() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Use ${isDark() ? "light" : "dark"} colours`);
  }
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem(STORED, root.dataset.theme);
    } catch {
      // A page from a file may not be allowed to store: the choice holds until it is closed.
    }
    show();
  });
  try {
    const stored = localStorage.getItem(STORED);
    if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  } catch {
    // as above
  }
  system.addEventListener("change", show);
  show();
  return button;
}

/** The models, one row each, with what identifies them. */
function modelsSection() {
  if (!data.models.length) return null;
  const entries = data.models.map((model, row) => {
    if (isPublished(row)) return [];
    const results = data.results.filter((result) => result.row === row);
    const result = results[0];
    const seconds = results.reduce((sum, result) => sum + result.timing.seconds, 0);
    const record = data.records[result.record];
    const environment = data.environments[result.environment];
    const fields = [
      ["spec", record.spec],
      ["architecture", record.arch],
      ["activation", record.activation],
      ["weights", record.digest || "no digest, so never cached"],
      ["precision", [...new Set(results.map((result) => result.precision))]],
      ["results", results.length],
      ["total seconds", Math.round(seconds * 10) / 10],
      ["measured", [...new Set(results.map((result) => result.timing.started.slice(0, 10)))]],
      ["hardware", environment.hardware],
      ["packages", environment.packages],
    ];
    return el("details", { class: "model" }, el("summary", {}, model.label), facts(fields));
  });
  return section(
    "models",
    "Models",
    el(
      "p",
      {},
      "Each row of the tables, and how it was measured. Press any number of this page for the same details.",
    ),
    entries.flat(),
  );
}

function listSection(id, title, lead, lines) {
  if (!lines.length) return null;
  return section(
    id,
    title,
    lead ? el("p", {}, lead) : null,
    el(
      "ul",
      { class: "lines" },
      lines.map((line) => el("li", {}, line)),
    ),
  );
}

function summary() {
  const full = data.results.filter((result) => result.limit === null);
  const precisions = [...new Set(data.results.map((result) => result.precision))].sort();
  const dates = data.results.map((result) => result.timing.started.slice(0, 10)).sort();
  const span = dates.length ? (dates[0] === dates.at(-1) ? dates[0] : `${dates[0]} to ${dates.at(-1)}`) : null;
  const plural = (n, what) => `${count(n)} ${what}${n === 1 ? "" : "s"}`;
  const published = data.models.filter((model) => model.kind === "published").length;
  const parts = [
    plural(data.models.length - published, "model"),
    published && plural(published, "published row"),
    plural(new Set(data.groups.map((group) => group.name)).size, "benchmark"),
    plural(full.length, "result"),
    precisions.join(", "),
    span && `measured ${span}`,
  ];
  return el("p", { class: "summary" }, parts.filter(Boolean).join(" · "));
}

function page() {
  const sections = [
    listSection("findings", "Findings", null, data.lead),
    leaderboardSection(),
    partialSection(),
    forestSection(),
    taskSection(),
    curveSection(),
    classSection(),
    metricsSection(),
    geometrySection(),
    imageSection(),
    modelsSection(),
    listSection("remarks", "Remarks", null, data.remarks),
    listSection("not-run", "Not run", "Requested, and not measured.", data.notRun),
    listSection("left-out", "Left out", "Not in this page, which is kept small; see the folder of the results.", data.leftOut),
  ].filter(Boolean);
  document.body.append(
    el("a", { class: "skip", href: "#main" }, "To the content"),
    el(
      "header",
      {},
      el("div", { class: "head" }, el("h1", {}, data.title), themeButton()),
      summary(),
      el("nav", { "aria-label": "Contents" }, contents),
    ),
    el("main", { id: "main", tabindex: "-1" }, sections),
    el(
      "footer",
      {},
      el("p", {}, `Made by ${data.madeBy} from results on disk. This page loads nothing from a network.`),
    ),
    dialog,
  );
}

try {
  page();
} catch (error) {
  document.body.append(
    el(
      "p",
      { role: "alert" },
      `A bug in cosmos-eval: this page could not be drawn (${error.message}). leaderboard.md has the numbers.`,
    ),
  );
  throw error;
}
