// The classes of a benchmark: recall, average precision or IoU of each, with its support, for every model.

const MOST_CLASSES = 50;
const isOfClass = (group, metric) => Boolean(group.classes) && metric.endsWith(`/${group.classes.metric}`);

/** The [value, low, high, n] of a class, or null: from the result's own table, or from its metrics. */
function valueOfClass(result, index) {
  const { metric, names, n } = data.groups[result.group].classes;
  if (result.classes) return result.classes[index] ? [...result.classes[index], n[index]] : null;
  return valueOf(result, `${names[index]}/${metric}`);
}

function classSection() {
  const groups = () => rankedGroups().filter(([, group]) => group.classes);
  if (!groups().length) return null;
  const container = el("div");
  const note = el("p", { class: "status", role: "status" });
  const state = { key: null, descending: false };
  let wanted = "";
  let most = MOST_CLASSES;
  let last = () => {};
  const box = search("Classes", "part of a name", (text) => ((wanted = text), last()));
  const rows = choice("Rows", [[MOST_CLASSES, `first ${MOST_CLASSES}`], [Infinity, "all"]], (value) => {
    most = Number(value);
    last();
  });
  const bar = chosen(groups, null, (index) => {
    last = () => draw(index);
    last();
  });
  bar.append(box.node, rows.node);

  function draw(index) {
    const results =
      index === null
        ? []
        : resultsOf(index)
            .filter((result) => modelIsShown(result.row))
            .sort((a, b) => a.row - b.row);
    note.textContent = "";
    if (!results.length) return replaceIn(container, nothing());
    const { names, n, title } = data.groups[index].classes;
    const numbers = [...names.keys()].filter((number) => matches(names[number], wanted));
    const columns = [
      { key: "class", title: "Class", text: true, value: (i) => names[i], cell: (i) => names[i] },
      { key: "n", title: "n", value: (i) => n[i], cell: (i) => count(n[i]) },
      ...results.map((result) => ({
        key: `row ${result.row}`,
        title: data.models[result.row].label,
        ascending: true, // a first press puts the worst on top
        value: (i) => valueOfClass(result, i)?.[0] ?? null,
        cell: (i) => {
          const values = valueOfClass(result, i);
          return values ? classButton(result, i, values) : el("span", { class: "missing" }, MISSING);
        },
      })),
    ];
    if (!columns.some((column) => column.key === state.key)) {
      state.key = columns[2].key; // the worst classes of the first model on top
      state.descending = false;
    }
    const hidden = Math.max(0, numbers.length - most);
    note.textContent = hidden
      ? `${count(most)} of ${count(numbers.length)} classes, the first of the chosen order; sort the other way or search to see others.`
      : `${count(numbers.length)} of ${count(names.length)} classes.`;
    rows.node.hidden = numbers.length <= MOST_CLASSES;
    return replaceIn(
      container,
      numbers.length
        ? sortable(`${title} of each class, ${data.groups[index].title}`, columns, numbers, state, { most })
        : nothing(),
    );
  }
  return section(
    "classes",
    "Each class",
    el(
      "p",
      {},
      "Recall of each class (multi-label: average precision, segmentation: IoU) in percent, and the number of its samples " +
        "or images; the worst of the first model on top. Press a model's name to sort by it, a number to see its " +
        "interval and the prompts.",
    ),
    bar,
    note,
    container,
  );
}
