// The leaderboard, its filters (which also apply to the charts), and results on a part of their data.

const filters = { model: "", task: "", benchmark: "", intervals: true };
const listeners = [];
const onFilter = (draw) => (listeners.push(draw), draw());
const changed = (name) => (value) => {
  filters[name] = value;
  for (const draw of listeners) draw();
};

const tasks = [...new Set([...data.groups, ...data.columns].map((entry) => entry.task))].filter(Boolean);
const modelIsShown = (row) => matches(data.models[row].label, filters.model);
const isPublished = (row) => data.models[row].kind === "published";
const isIn = (task, title) => (!filters.task || task === filters.task) && matches(title, filters.benchmark);
const groupIsShown = (group) => isIn(group.task, group.title);
const small = (text) => el("small", {}, text);

/** A column of metrics of one group. `values` maps a row to a number, `node` makes its cell. */
function metricColumn(index, metric, results, options = {}) {
  const group = data.groups[index];
  const byRow = new Map(results.filter((result) => valueOf(result, metric)).map((result) => [result.row, result]));
  const listed = [...byRow.values()].map((result) => valueOf(result, metric)[0]);
  const sorted = listed.sort((a, b) => (isRank(metric) ? a - b : b - a));
  return {
    key: `${index} ${metric}`,
    title: options.title ?? `${group.title} ${shortName(group, metric)}`,
    notes: options.notes,
    ascending: isRank(metric),
    values: new Map([...byRow].map(([row, result]) => [row, valueOf(result, metric)[0]])),
    node(row) {
      const result = byRow.get(row);
      const place = options.ranked ? sorted.indexOf(valueOf(result, metric)[0]) + 1 : 0;
      const part = result.limit === null ? null : small(`first ${count(result.limit)}`);
      return [resultButton(result, metric, placeClass(place)), intervalNode(metric, valueOf(result, metric)), part];
    },
  };
}

const placeClass = (place) => ({ 1: "best", 2: "second" })[place] ?? "";
const intervalNode = (metric, values) => (filters.intervals ? small(interval(metric, values)) : null);

/** A column of the board, with its places. */
function boardColumn(column, number) {
  const cells = new Map(data.cells.filter((cell) => cell[1] === number).map((cell) => [cell[0], cell]));
  const results =
    column.group === null ? new Map() : new Map(resultsOf(column.group).map((result) => [result.row, result]));
  return {
    key: `column ${number}`,
    title: column.title,
    notes: column.about.split(/, (?=\D)/),
    task: column.task || "all tasks",
    ascending: column.lowerIsBetter,
    values: new Map([...cells].map(([row, cell]) => [row, cell[2]])),
    node(row) {
      const [, , value, low, high, , place, decimals, source] = cells.get(row);
      const style = placeClass(place);
      if (results.has(row)) {
        const result = results.get(row);
        return [
          resultButton(result, column.metric, style),
          intervalNode(column.metric, valueOf(result, column.metric)),
        ];
      }
      const scale = column.lowerIsBetter ? 1 : 100;
      const text = (decimals ?? 1) === 1 ? oneDecimal(scale * value) : (scale * value).toFixed(decimals);
      const open = isPublished(row)
        ? () => openPublished(row, column, text, source)
        : () => openAverage(row, column, text);
      const label = `${text}, ${data.models[row].label}, ${column.title}: how it was measured`;
      return [
        numberButton(text, label, open, style),
        low === null ? null : small(interval(column.metric, [0, low, high])),
      ];
    },
  };
}

/** A table of models; published ones are in a group of their own below. */
function modelTable(caption, rows, columns, state) {
  const head = {
    key: "model",
    title: "Model",
    text: true,
    value: (row) => data.models[row].label,
    cell: (row) => data.models[row].label,
  };
  const others = columns.map((column) => ({
    ...column,
    value: (row) => column.values.get(row) ?? null,
    cell: (row) =>
      column.values.has(row) ? column.node(row) : el("span", { class: "missing", title: "not measured" }, MISSING),
  }));
  return sortable(caption, [head, ...others], rows, state, {
    isApart: isPublished,
    apart: "Published elsewhere, not measured here",
  });
}

function openPublished(row, column, text, source) {
  openDialog(
    `${data.models[row].label}, ${column.title}`,
    "provenance",
    el("p", { class: "statement" }, el("strong", {}, text), " as published, not measured here"),
    block("Source", [
      ["source", source || data.models[row].source],
      ["row", data.models[row].source],
      ["column", column.about],
    ]),
  );
}

function openAverage(row, column, text) {
  const isPart = (member) =>
    member.kind === "metric" &&
    column.ofMetrics[column.of.indexOf(data.groups[member.group]?.name)]?.includes(member.metric);
  const isWeighted = new Set(column.ofWeights).size > 1;
  const parts = data.columns
    .map((member, number) => ({ member, cell: data.cells.find((cell) => cell[0] === row && cell[1] === number) }))
    .filter(({ member, cell }) => cell && isPart(member));
  openDialog(
    `${data.models[row].label}, ${column.title}`,
    "provenance",
    el(
      "p",
      { class: "statement" },
      el("strong", {}, text),
      ` ${column.about}; made from the numbers of its benchmarks, ${isWeighted ? "with their weights" : "each with the same weight"}`,
    ),
    block("Benchmarks", [
      ["mean of", column.of.map((name, number) => `${name} (${column.ofMetrics[number].join(", ")}${isWeighted ? `; weight ${column.ofWeights[number]}` : ""})`)],
      ...parts.map(({ member, cell }) => [member.title, shown(member.metric, cell[2])]),
    ]),
  );
}

function leaderboardSection() {
  if (!data.columns.length) return null;
  const container = el("div");
  const status = el("p", { class: "status", role: "status" });
  const state = { key: null, descending: false };
  const intervals = el("input", { type: "checkbox", checked: true });
  intervals.addEventListener("change", () => changed("intervals")(intervals.checked));
  const bar = el(
    "div",
    { class: "filters", role: "search", "aria-label": "Filters" },
    search("Models", "part of a name", changed("model")).node,
    choice("Task", [["", "all"], ...tasks.map((name) => [name, name])], changed("task")).node,
    search("Benchmarks", "part of a name", changed("benchmark")).node,
    el("label", { class: "check" }, intervals, "95 % intervals"),
  );
  const all = data.columns.map(boardColumn);
  const ranked = [...new Set(data.cells.map(([row]) => row))].sort((a, b) => a - b);

  onFilter(() => {
    const columns = all.filter((_, number) => isIn(data.columns[number].task, data.columns[number].title));
    const rows = ranked.filter((row) => modelIsShown(row) && columns.some((column) => column.values.has(row)));
    status.textContent = `${rows.length} of ${ranked.length} rows, ${columns.length} of ${all.length} columns.`;
    replaceIn(container, rows.length ? modelTable("Leaderboard", rows, columns, state) : nothing());
  });
  return section(
    "leaderboard",
    "Leaderboard",
    el(
      "p",
      {},
      "Percent; the best of a column in bold, the second underlined. Press a column head to sort, a number to see how it " +
        "was measured. A column has one protocol and one dataset; –: not measured. Filters also apply to the charts " +
        "below.",
    ),
    bar,
    status,
    container,
  );
}

function partialSection() {
  if (!data.results.some((result) => result.limit !== null)) return null;
  const container = el("div");
  const state = { key: null, descending: false };
  onFilter(() => {
    const columns = data.groups
      .flatMap((group, index) =>
        groupIsShown(group)
          ? group.headlines.map((metric) =>
              metricColumn(
                index,
                metric,
                resultsOf(index, true).filter((result) => modelIsShown(result.row)),
              ),
            )
          : [],
      )
      .filter((column) => column.values.size);
    const rows = [...new Set(columns.flatMap((column) => [...column.values.keys()]))];
    replaceIn(container, rows.length ? modelTable("Partial results", rows, columns, state) : nothing());
  });
  return section(
    "partial",
    "Partial results",
    el(
      "p",
      {},
      "Measured with --limit, on the first samples only. They are not part of the leaderboard or of any chart, and " +
        "are not ranked.",
    ),
    container,
  );
}

const nothing = () => el("p", {}, "Nothing is left by these filters.");
