// Curves over a training: a line for each network with its interval as a band, and the numbers behind it.

const WIDE = 420,
  HIGH = 230,
  LEFT = 44,
  RIGHT = 12,
  TOP = 10,
  BOTTOM = 30;

function openPoint(panel, name, point) {
  const [step, value, low, high, n, digest, seconds] = point;
  openDialog(
    `${panel.title}, ${name}, step ${count(step)}`,
    "provenance",
    statement(panel.metric, panel.metric, [value, low, high, n]),
    block("Model", [
      ["training and network", name],
      ["step", step],
      ["digest", digest || "none"],
    ]),
    block("Protocol", [
      ["benchmark", panel.shared.benchmark],
      ["fingerprint", panel.shared.fingerprint],
      ["metric", panel.metric],
      ["limit", panel.limit === null ? null : `first ${count(panel.limit)} samples only`],
    ]),
    block("Data", [
      ["fingerprint", panel.shared.dataset],
      ["n", n],
    ]),
    block("Measurement", [
      ["precision", panel.shared.precision],
      ["seconds", seconds],
    ]),
    el("p", {}, "Environment and date are in the RESULT.json of this step."),
  );
}

function curvePanel(panel) {
  const scale = scaleOf(panel.metric);
  const points = panel.series.flatMap((series) => series.points);
  const steps = points.map(([step]) => step);
  const [first, last] = [Math.min(...steps), Math.max(...steps)];
  const span = spanOf(
    panel.metric,
    points.map((point) => point.slice(1)),
    false,
  );
  const x = (step) => LEFT + ((step - first) / (last - first || 1)) * (WIDE - LEFT - RIGHT);
  const y = (value) => TOP + (1 - (scale * value - span.bottom) / (span.top - span.bottom)) * (HIGH - TOP - BOTTOM);
  const across = (pairs) => pairs.map(([a, b]) => `${a.toFixed(1)},${b.toFixed(1)}`).join(" ");

  const grid = ticksOf(span.bottom, span.top).flatMap((tick) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDE - RIGHT, y1: y(tick / scale), y2: y(tick / scale) }),
    svg("text", { x: LEFT - 6, y: y(tick / scale) + 4, "text-anchor": "end" }, String(tick)),
  ]);
  const feet = ticksOf(first, last)
    .filter(Number.isInteger)
    .map((tick) => svg("text", { x: x(tick), y: HIGH - 12, "text-anchor": "middle" }, count(tick)));
  const drawn = panel.series.map((series, index) => {
    const colour = `c${index % COLOURS}`;
    const band = [
      ...series.points.map((p) => [x(p[0]), y(p[3])]),
      ...series.points.map((p) => [x(p[0]), y(p[2])]).reverse(),
    ];
    return [
      svg("polygon", { class: `band ${colour}`, points: across(band) }),
      svg("polyline", { class: `line ${colour}`, points: across(series.points.map((p) => [x(p[0]), y(p[1])])) }),
      series.points.map((point) =>
        svg(
          "circle",
          {
            class: `point ${colour}`,
            cx: x(point[0]),
            cy: y(point[1]),
            r: 3.2,
            onclick: () => openPoint(panel, series.name, point),
          },
          svg(
            "title",
            {},
            `${series.name}, step ${count(point[0])}: ` +
              `${shown(panel.metric, point[1])} ${interval(panel.metric, point.slice(1))}`,
          ),
        ),
      ),
    ];
  });
  const chart = svg(
    "svg",
    {
      class: "curve",
      viewBox: `0 0 ${WIDE} ${HIGH}`,
      role: "img",
      "aria-label": `${panel.title} by step; the numbers follow`,
    },
    grid,
    feet,
    drawn.flat(2),
  );
  const legend = el(
    "ul",
    { class: "legend" },
    panel.series.map((series, index) =>
      el("li", {}, el("span", { class: `swatch c${index % COLOURS}`, "aria-hidden": "true" }), series.name),
    ),
  );
  return el(
    "div",
    { class: "panel" },
    el("h3", {}, `${panel.title}${unitOf(panel.metric) ? ", %" : ""}`),
    chart,
    legend,
    numbersOf(panel),
  );
}

/** The numbers of a panel, each a button; drawn when they are asked for. */
function numbersOf(panel) {
  const details = el("details", {}, el("summary", {}, "Numbers"));
  const all = [...new Set(panel.series.flatMap((series) => series.points.map(([step]) => step)))].sort((a, b) => a - b);
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const columns = [
      { key: "step", title: "Step", ascending: true, value: (step) => step, cell: (step) => count(step) },
      ...panel.series.map((series, index) => {
        const at = new Map(series.points.map((point) => [point[0], point]));
        return {
          key: `series ${index}`,
          title: series.name,
          ascending: isRank(panel.metric),
          value: (step) => at.get(step)?.[1] ?? null,
          cell: (step) => {
            const point = at.get(step);
            if (!point) return el("span", { class: "missing" }, MISSING);
            const text = shown(panel.metric, point[1]);
            const label = `${text}${unitOf(panel.metric)}, ${series.name}, step ${count(step)}: how it was measured`;
            return [
              numberButton(text, label, () => openPoint(panel, series.name, point)),
              el("small", {}, interval(panel.metric, point.slice(1))),
            ];
          },
        };
      }),
    ];
    details.append(sortable(panel.title, columns, all, { key: null, descending: false }));
  });
  return details;
}

function curveSection() {
  if (!data.curves.length) return null;
  return section(
    "curves",
    "Checkpoints",
    el(
      "p",
      {},
      "Headline metrics by step of a training, with 95 % intervals. Each protocol and dataset has a panel of its own.",
    ),
    el("div", { class: "panels" }, data.curves.map(curvePanel)),
  );
}
