// Where the embeddings of a benchmark lie and whether probabilities can be believed: what show geometry computed.

const SIDE = 240;
/** Columns: names in geometry.json (of images and of texts where there are two), decimals, percentage or not, and
 * whether the smallest is the best. */
const FIGURES = [
  { names: ["modality_gap"], title: "Gap", notes: ["modality"], decimals: 3, ascending: true },
  { names: ["alignment"], title: "Alignment", decimals: 3, ascending: true },
  {
    names: ["uniformity_images", "uniformity_texts"],
    title: "Uniformity",
    notes: ["images / texts"],
    decimals: 2,
    ascending: true,
  },
  {
    names: ["effective_rank_images", "effective_rank_texts"],
    title: "Effective rank",
    notes: ["images / texts"],
    decimals: 1,
  },
  { names: ["expected_calibration_error"], title: "ECE", notes: ["%"], isShare: true, ascending: true },
  { names: ["mean_confidence"], title: "Confidence", notes: ["mean, %"], isShare: true },
  { names: ["accuracy"], title: "Accuracy", notes: ["%"], isShare: true },
  { names: ["logit_scale"], title: "Logit scale", decimals: 1 },
  { names: ["ood_auroc_score"], title: "AUROC", notes: ["out of distribution, %"], isShare: true },
  { names: ["ood_fpr95_score"], title: "FPR95", notes: ["out of distribution, %"], isShare: true, ascending: true },
];

const percent = (share) => (share === null ? MISSING : oneDecimal(100 * share));

/** ` [low, high]` in the decimals of its value; empty where there is none, as in files of older versions. */
const bounds = (pair, text) => (pair && pair[0] !== null && pair[0] !== undefined ? ` [${text(pair[0])}, ${text(pair[1])}]` : "");

/** Accuracy of each bin of confidence against the diagonal, on which a calibrated model lies. */
function reliabilityChart(entry, label) {
  const { bins, figures } = entry;
  const at = (share) => LEFT + share * (SIDE - LEFT - RIGHT);
  const y = (share) => TOP + (1 - share) * (SIDE - TOP - BOTTOM);
  const width = (SIDE - LEFT - RIGHT) / bins.length;
  const grid = [0, 0.5, 1].flatMap((share) => [
    svg("line", { class: "grid", x1: LEFT, x2: SIDE - RIGHT, y1: y(share), y2: y(share) }),
    svg("text", { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" }, String(100 * share)),
    svg("text", { x: at(share), y: SIDE - 12, "text-anchor": "middle" }, String(100 * share)),
  ]);
  const bars = bins.map(([queries, confidence, accuracy, ...pair], i) =>
    queries
      ? svg(
          "rect",
          { class: `bar c${entry.row % COLOURS}`, x: LEFT + i * width, width: width - 1, y: y(accuracy), height: y(0) - y(accuracy) },
          svg(
            "title",
            {},
            `${count(queries)} queries: confidence ${percent(confidence)} %, accuracy ${percent(accuracy)}${bounds(pair, percent)} %`,
          ),
        )
      : null,
  );
  const whiskers = bins.map(([queries, , , low, high], i) => {
    const middle = LEFT + (i + 0.5) * width;
    return queries && low !== null ? svg("line", { class: "whisker", x1: middle, x2: middle, y1: y(low), y2: y(high) }) : null;
  });
  const error = percent(figures.expected_calibration_error ?? null) + bounds(entry.intervals.expected_calibration_error, percent);
  return svg(
    "svg",
    {
      class: "reliability",
      viewBox: `0 0 ${SIDE} ${SIDE}`,
      role: "img",
      "aria-label": `Reliability of ${label}: accuracy by confidence, ECE ${error} %; the numbers follow`,
    },
    grid,
    bars.filter(Boolean),
    whiskers.filter(Boolean),
    svg("line", { class: "ideal", x1: at(0), x2: at(1), y1: y(0), y2: y(1) }),
  );
}

function binTable(entry, label) {
  const columns = [
    { key: "bin", title: "Confidence, %", ascending: true, value: (i) => i, cell: (i) => binName(i, entry.bins.length) },
    { key: "n", title: "Queries", value: (i) => entry.bins[i][0], cell: (i) => count(entry.bins[i][0]) },
    ...[
      [1, "Mean confidence, %"],
      [2, "Accuracy, %"],
    ].map(([place, title]) => ({
      key: title,
      title,
      value: (i) => entry.bins[i][place],
      cell: (i) => [percent(entry.bins[i][place]), place === 2 ? small(bounds(entry.bins[i].slice(3), percent)) : null],
    })),
  ];
  const details = el("details", {}, el("summary", {}, "Numbers"));
  details.append(sortable(`Reliability of ${label}`, columns, [...entry.bins.keys()], { key: null, descending: false }));
  return details;
}

const binName = (i, bins) => `${oneDecimal((100 * i) / bins)} to ${oneDecimal((100 * (i + 1)) / bins)}`;

function confusedTable(entry, label) {
  if (!entry.confused.length) return null;
  const columns = [
    { key: "true", title: "Class", text: true, value: (row) => row[0], cell: (row) => row[0] },
    { key: "predicted", title: "Taken for", text: true, value: (row) => row[1], cell: (row) => row[1] },
    { key: "images", title: "Images", value: (row) => row[2], cell: (row) => [oneDecimal(row[2]), small(bounds(row.slice(3), oneDecimal))] },
  ];
  return sortable(`Most confused classes of ${label}`, columns, entry.confused, { key: null, descending: false });
}

function geometryPanel(entry) {
  const { label } = data.models[entry.row];
  const chart = entry.bins.length ? [reliabilityChart(entry, label), binTable(entry, label)] : [];
  const note = entry.bins.length ? null : el("p", {}, "The model does not say its logit scale: no probabilities.");
  return el("div", { class: "panel" }, el("h3", {}, `${label} `, el("span", {}, "accuracy by confidence, %")), note, chart, confusedTable(entry, label));
}

/** A table with a row for each model, and the reliability and the confused classes of each. */
function geometryOf(entries, group, state) {
  const figures = FIGURES.filter(({ names }) => entries.some((entry) => Number.isFinite(entry.figures[names[0]])));
  const columns = [
    {
      key: "model",
      title: "Model",
      text: true,
      value: (entry) => data.models[entry.row].label,
      cell: (entry) => [
        data.models[entry.row].label,
        el("small", {}, ` ${entry.precision}${entry.against ? `, against ${entry.against}` : ""}`),
      ],
    },
    ...figures.map(({ names, title, notes, decimals, isShare, ascending }) => ({
      key: names[0],
      title,
      notes,
      ascending,
      value: (entry) => entry.figures[names[0]] ?? null,
      cell: (entry) => {
        const values = names.map((name) => entry.figures[name] ?? null);
        if (values[0] === null) return el("span", { class: "missing" }, MISSING);
        const text = (value) => (value === null ? MISSING : isShare ? percent(value) : value.toFixed(decimals));
        return values.flatMap((value, i) => [
          i ? " / " : null,
          text(value),
          value === null ? null : small(bounds(entry.intervals[names[i]], text)),
        ]);
      },
    })),
  ];
  return [
    sortable(`Embeddings of ${group.title}`, columns, entries, state),
    el("div", { class: "panels" }, entries.map(geometryPanel)),
  ];
}

function absentGeometry() {
  const { commands, further, withoutCommand, entries } = data.geometry;
  const total = commands.length + further + withoutCommand;
  if (!total) return null;
  const more = further ? `, ${count(commands.length)} of them here` : "";
  return el(
    "details",
    entries.length ? {} : { open: true },
    el("summary", {}, `Not computed: ${count(total)}${more}`),
    el(
      "p",
      {},
      "Each of these commands reads the cached features of the run, and runs the model for what is not cached. Give " +
        "--data-root where the data is not in data. Models without one embedding for each input are refused.",
    ),
    el(
      "ul",
      { class: "lines" },
      commands.map((command) => el("li", {}, el("code", {}, command))),
    ),
    withoutCommand
      ? el(
          "p",
          {},
          `Without a command: ${count(withoutCommand)}, of a model in memory or under a path that this page ` +
            "shortens, or of a definition or prompts that are not the shipped ones.",
        )
      : null,
  );
}

function geometrySection() {
  const { entries, commands, withoutCommand } = data.geometry;
  if (!entries.length && !commands.length && !withoutCommand) return null;
  const state = { key: null, descending: false };
  const container = el("div");
  const groups = () =>
    data.groups
      .map((group, index) => [index, group])
      .filter(([index, group]) => groupIsShown(group) && entries.some((entry) => entry.group === index));
  const bar = chosen(groups, null, (index) => {
    const shownEntries = entries.filter((entry) => entry.group === index && modelIsShown(entry.row));
    replaceIn(container, ...(shownEntries.length ? geometryOf(shownEntries, data.groups[index], state) : [nothing()]));
  });
  return section(
    "geometry",
    "Embeddings",
    el(
      "p",
      {},
      "Where the embeddings of images and texts lie, and whether the probabilities at the model's own logit scale can " +
        "be believed: what cosmos-eval show geometry computed. Gap: distance of the mean image and the mean text. " +
        "Alignment: squared distance of pairs, 0 is best. Uniformity: 0 if all are equal, -4 if orthogonal. Bars: " +
        "accuracy by confidence; on the dashed line a model is calibrated. In brackets and as lines: 95 % intervals; " +
        "figures of classes alone, which the benchmark fixes, have none.",
    ),
    ...(entries.length ? [bar, container] : []),
    absentGeometry(),
  );
}
