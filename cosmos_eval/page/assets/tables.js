// Tables that sort by any of their columns: the head of each is a button, and aria-sort gives the order.

/**
 * A table.
 *   columns: {key, title, notes, task, value(row) -> number, string or null, cell(row) -> node or text, text,
 *     ascending}; the first one heads its rows; `text` columns and `ascending` ones (ranks) begin with their smallest.
 *   rows: anything, in the order in which they are shown before a column is chosen.
 *   state: {key, descending}, kept by the caller so that a table drawn anew keeps its order.
 *   isApart: rows that are always below the others, under the heading `apart`.
 *   most: rows that are shown, the first ones in the chosen order.
 */
function sortable(caption, columns, rows, state, { isApart = () => false, apart = "", most = Infinity } = {}) {
  const table = el("table", {}, el("caption", {}, caption));
  const heads = columns.map((column, index) => {
    const button = el(
      "button",
      { type: "button", class: "sort", onclick: () => sortBy(index) },
      column.title,
      el("span", { class: "arrow", "aria-hidden": "true" }),
    );
    return el(
      "th",
      { scope: "col", class: column.text ? "text" : "figure" },
      button,
      (column.notes ?? []).map((note) => el("small", {}, note)),
    );
  });

  function sortBy(index) {
    // A first press puts the best on top, the next one reverses the order.
    const { key, text, ascending } = columns[index];
    state.descending = state.key === key ? !state.descending : !text && !ascending;
    state.key = key;
    draw();
  }

  function draw() {
    const column = columns.find((candidate) => candidate.key === state.key);
    const keyed = rows.map((row, index) => ({ row, index, key: column ? column.value(row) : index }));
    keyed.sort((a, b) => {
      // What is missing comes last in both orders.
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.index - b.index;
      const order = typeof a.key === "string" ? a.key.localeCompare(b.key, "en", { numeric: true }) : a.key - b.key;
      return (state.descending ? -order : order) || a.index - b.index;
    });
    heads.forEach((head, index) => {
      if (columns[index] !== column) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
    });
    const bodies = [false, true].map((below) => {
      const part = keyed.filter(({ row }) => isApart(row) === below).slice(0, most);
      if (!part.length) return null;
      const heading = below
        ? el("tr", { class: "apart" }, el("th", { scope: "rowgroup", colspan: columns.length }, el("span", {}, apart)))
        : null;
      return el(
        "tbody",
        {},
        heading ?? [],
        part.map(({ row }) => rowOf(row)),
      );
    });
    table.querySelectorAll("tbody").forEach((body) => body.remove());
    table.append(...bodies.filter(Boolean));
  }

  function rowOf(row) {
    const [first, ...otherColumns] = columns;
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, first.cell(row)),
      otherColumns.map((column) => el("td", { class: column.text ? "text" : "figure" }, column.cell(row))),
    );
  }

  table.append(el("thead", {}, taskRow(columns), el("tr", { class: "heads" }, heads)));
  draw();
  return scroller(caption, table);
}

/** A row above the heads that names the task of neighbouring columns, where there are several tasks. */
function taskRow(columns) {
  const runs = [];
  for (const { task } of columns) {
    if (runs.length && runs.at(-1).task === task) runs.at(-1).span += 1;
    else runs.push({ task, span: 1 });
  }
  if (runs.filter((run) => run.task !== undefined).length < 2) return [];
  return el(
    "tr",
    {},
    runs.map(({ task, span }) =>
      task === undefined
        ? el("td", { colspan: span })
        : el("th", { class: "task", scope: "colgroup", colspan: span }, el("span", {}, task)),
    ),
  );
}
