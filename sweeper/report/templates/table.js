"use strict";
{
  const pageful = 50;
  let order = data.ranked;
  let shown = pageful;
  let sorted = { name: data.order, down: true };

  const words = data.ranked.reduce((found, i) => {
    found[i] = `${rowWords(i)} ${data.state[i]} ${data.vetoes[i].join(" ")} ${data.reason[i]}`.toLowerCase();
    return found;
  }, []);

  function value(name, i) {
    if (data.metrics[name]) return data.metrics[name][i];
    return data.place[name] ? data.place[name][i] : data.varying[name][i];
  }

  /** By a column; what has no value comes last in both directions. */
  function compare(a, b) {
    const [x, y] = [value(sorted.name, a), value(sorted.name, b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x < y ? -1 : x > y ? 1 : 0) * (sorted.down ? -1 : 1);
  }

  function arrange() {
    const wanted = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = data.ranked.filter((i) => wanted.every((word) => words[i].includes(word)));
    order = sorted.name === data.order && sorted.down ? kept : kept.sort(compare);
    shown = pageful;
    show();
  }

  function heading(name) {
    const button = make("button", { type: "button", textContent: titleOf(name), title: aboutOf(name) });
    button.addEventListener("click", () => {
      sorted = { name, down: sorted.name === name ? !sorted.down : Boolean(data.metrics[name]) };
      arrange();
    });
    const th = make("th", { scope: "col" }, button);
    if (sorted.name === name) th.ariaSort = sorted.down ? "descending" : "ascending";
    return th;
  }

  function measured(name, i) {
    const interval = data.intervals[name]?.[i];
    const ends = interval && interval[0] !== null ? make("small", { textContent: ` ${number(interval[0])}–${number(interval[1])}` }) : null;
    return make("td", {}, number(metric(name, i), 3), ends);
  }

  function line(i) {
    const notes = [data.state[i] === "COMPLETE" ? "" : data.state[i], data.reason[i], ...data.vetoes[i], data.asked[i] ? "" : "on the way"];
    const tr = make("tr", { className: i === data.best ? "chosen" : "" },
      make("td", {}, images.rows[i] ? cellTile(i, 0) : null),
      ...Object.keys(data.varying).map((name) => make("td", { textContent: data.varying[name][i] })),
      ...Object.keys(data.metrics).map((name) => measured(name, i)),
      make("td", { className: "words", textContent: notes.filter(Boolean).join("; ") }));
    tr.addEventListener("click", () => openCell(i));
    return tr;
  }

  function show() {
    const names = [...Object.keys(data.varying), ...Object.keys(data.metrics)];
    byId("table").replaceChildren(
      make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "image" }), ...names.map(heading), make("th", { className: "words", textContent: "notes" }))),
      make("tbody", {}, ...order.slice(0, shown).map(line)));
    byId("count").textContent = `${Math.min(shown, order.length).toLocaleString("en")} of ${order.length.toLocaleString("en")}`;
    byId("more").hidden = shown >= order.length;
  }

  byId("filter").addEventListener("input", arrange);
  byId("more").addEventListener("click", () => { shown += 4 * pageful; show(); });
  show();
}
