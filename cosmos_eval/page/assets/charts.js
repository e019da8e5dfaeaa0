// Charts with a row for each model: intervals of a metric, bars of a task, all metrics.

/** Round values that divide a range into about five steps. */
function ticksOf(low, high, most = 5) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i += 1)
    ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** The range of a chart in printed units: bars begin at zero, points need only the range of the intervals. */
function spanOf(metric, values, fromZero) {
  const scale = scaleOf(metric);
  const low = fromZero ? 0 : Math.min(...values.map((value) => scale * Math.min(value[0], value[1])));
  const high = Math.max(...values.map((value) => scale * Math.max(value[0], value[2])), fromZero ? 1e-9 : -Infinity);
  const margin = (high - low) * 0.06 || 1;
  const bottom = fromZero ? 0 : Math.max(0, low - margin);
  return { bottom, top: isRank(metric) ? high + margin : Math.min(100.5, high + margin) };
}

/** Rows of a label, a drawn value with its interval, and the number; and an axis below. `kind`: "point" or "bar". */
function valueRows(metric, entries, kind) {
  const span = spanOf(
    metric,
    entries.map((entry) => entry.values),
    kind === "bar",
  );
  const scale = scaleOf(metric);
  const at = (value) => `${((value - span.bottom) / (span.top - span.bottom || 1)) * 100}%`;
  const ticks = ticksOf(span.bottom, span.top);
  const lines = () =>
    ticks.map((tick) => svg("line", { class: "grid", x1: at(tick), x2: at(tick), y1: 0, y2: "100%" }));
  const rows = entries.map(({ label, values, button, colour }) => {
    const [value, low, high] = values.map((x) => scale * x);
    const mark =
      kind === "bar"
        ? svg("rect", { class: `bar c${colour}`, x: 0, width: at(value), y: 3, height: 12 })
        : svg("circle", { class: `point c${colour}`, cx: at(value), cy: 9, r: 4.5 });
    const whisker = svg("line", { class: "whisker", x1: at(low), x2: at(high), y1: 9, y2: 9 });
    const caps = [low, high].map((x) => svg("line", { class: "whisker", x1: at(x), x2: at(x), y1: 6, y2: 12 }));
    const title = svg("title", {}, `${label}: ${shown(metric, values[0])} ${interval(metric, values)}`);
    return [
      el("div", { class: "row-label" }, label),
      svg(
        "svg",
        { class: "row-mark", height: 18, "aria-hidden": "true" },
        title,
        lines(),
        kind === "bar" ? mark : null,
        whisker,
        caps,
        kind === "bar" ? null : mark,
      ),
      el("div", { class: "row-value" }, button),
    ];
  });
  const axis = svg(
    "svg",
    { class: "row-axis", height: 18, "aria-hidden": "true" },
    ticks.map((tick) => svg("text", { x: at(tick), y: 13, "text-anchor": "middle" }, String(tick))),
  );
  return el(
    "div",
    { class: "rows" },
    rows.flat(),
    el("div", {}),
    axis,
    el("div", { class: "unit" }, isRank(metric) ? "rank" : "%"),
  );
}

const COLOURS = 8;
function entriesOf(index, metric) {
  const sign = isRank(metric) ? 1 : -1;
  return resultsOf(index)
    .filter((result) => modelIsShown(result.row) && valueOf(result, metric))
    .map((result) => ({
      label: data.models[result.row].label,
      values: valueOf(result, metric),
      button: resultButton(result, metric),
      colour: result.row % COLOURS,
    }))
    .sort((a, b) => sign * (a.values[0] - b.values[0]));
}

const rankedGroups = () =>
  data.groups
    .map((group, index) => [index, group])
    .filter(([index, group]) => groupIsShown(group) && resultsOf(index).length);

/** Two choices that follow the filters, a benchmark and what `optionsOf` it: draws whenever one of them changes. */
function chosen(groupsOf, optionsOf, draw) {
  const second = optionsOf ? choice("Metric", [], () => drawNow()) : null;
  const first = choice("Benchmark", [], () => (fill(), drawNow()));
  function refill(select, options) {
    const before = select.value;
    select.replaceChildren(...options.map(([value, text]) => el("option", { value }, text)));
    if (options.some(([value]) => String(value) === before)) select.value = before;
  }
  function fill() {
    if (second) refill(second.select, first.select.value === "" ? [] : optionsOf(data.groups[first.select.value]));
  }
  function drawNow() {
    draw(first.select.value === "" ? null : Number(first.select.value), second?.select.value);
  }
  onFilter(() => {
    refill(
      first.select,
      groupsOf().map(([index, group]) => [index, group.title]),
    );
    fill();
    drawNow();
  });
  return el("div", { class: "filters" }, first.node, second?.node ?? []);
}

function forestSection() {
  if (!data.results.some((result) => result.limit === null)) return null;
  const container = el("div");
  const options = (group) => {
    const first = group.headlines;
    const others = group.metrics.filter((metric) => !first.includes(metric));
    return [...first, ...others].map((metric) => [metric, shortName(group, metric)]);
  };
  const bar = chosen(rankedGroups, options, (index, metric) => {
    const entries = index === null ? [] : entriesOf(index, metric);
    replaceIn(container, entries.length ? valueRows(metric, entries, "point") : nothing());
  });
  return section(
    "intervals",
    "Intervals",
    el("p", {}, "A metric of one benchmark with its 95 % interval, best model first."),
    bar,
    container,
  );
}

const FEW = 8;
function taskSection() {
  if (!data.results.some((result) => result.limit === null)) return null;
  const container = el("div", { class: "panels" });
  const columns = data.groups.flatMap((group, index) => group.headlines.map((metric) => ({ group, index, metric })));
  const names = tasks.map((name) => [name, name]);
  const all = [["", "all"]];
  const task = choice("Task", columns.length > FEW ? [...names, ...all] : [...all, ...names], () => draw());
  function draw() {
    const panels = columns.map(({ group, index, metric }) => {
      if (!groupIsShown(group) || (task.select.value && group.task !== task.select.value)) return null;
      const entries = entriesOf(index, metric);
      if (!entries.length) return null;
      const heading = el("h3", {}, `${group.title} `, el("span", {}, shortName(group, metric)));
      return el("div", { class: "panel" }, heading, valueRows(metric, entries, "bar"));
    });
    replaceIn(container, panels.some(Boolean) ? panels.filter(Boolean) : nothing());
  }
  onFilter(() => {
    // Show the task that is chosen in the filters at the top.
    if (filters.task && task.select.value) task.select.value = filters.task;
    draw();
  });
  return section(
    "tasks",
    "By task",
    el("p", {}, "Headline metrics of each benchmark of a task, with 95 % intervals."),
    el("div", { class: "filters" }, task.node),
    container,
  );
}

const PARTS = 60;
function metricsSection() {
  if (!data.results.some((result) => result.limit === null)) return null;
  const container = el("div");
  const note = el("p", { class: "status", role: "status" });
  const state = { key: null, descending: false };
  let wanted = "";
  let last = () => {};
  const box = search("Metrics", "part of a name", (text) => ((wanted = text), last()));
  const bar = chosen(rankedGroups, null, (index) => {
    last = () => draw(index);
    last();
  });
  bar.append(box.node);
  function draw(index) {
    const results = index === null ? [] : resultsOf(index).filter((result) => modelIsShown(result.row));
    if (!results.length) return replaceIn(container, nothing());
    const group = data.groups[index];
    const all = group.metrics.filter((metric) => !isOfClass(group, metric));
    const parts = all.filter((metric) => metric.includes("/")).length;
    const few = parts > PARTS && !wanted;
    const metrics = all.filter((metric) =>
      few
        ? !metric.includes("/") || metric.includes("/macro_")
        : matches(`${metric} ${shortName(group, metric)}`, wanted),
    );
    note.textContent = few ? `${parts} metrics of single parts are hidden; search for one to see it.` : "";
    const columns = metrics.map((metric) =>
      metricColumn(index, metric, results, { title: shortName(group, metric), ranked: true }),
    );
    const rows = [...new Set(results.map((result) => result.row))].sort((a, b) => a - b);
    state.key = columns.some((column) => column.key === state.key) ? state.key : null;
    return replaceIn(container, modelTable(`Every metric of ${group.title}`, rows, columns, state));
  }
  return section("metrics", "Every metric", bar, note, container);
}
