"use strict";
{
  let by = axisNames.find((name) => data.axes[name].log) ?? axisNames.find((name) => data.axes[name].values.length <= 8) ?? "";

  function preview(i) {
    const tiles = images.rows[i] ? images.tiles.slice(0, 4).map((tile, k) => tileOf(images.rows[i], k, tileWords(tile))) : [];
    const note = [scoreWords(i), ...data.vetoes[i]].join(" · ");
    byId("preview").replaceChildren(make("div", { className: "mosaic" }, ...tiles),
      make("div", { className: "caption", textContent: rowWords(i) }), make("div", { className: "caption", textContent: note }));
  }

  function groups(rows) {
    const levels = data.axes[by]?.values.length ?? 0;
    if (!levels || levels > 8) return [["", rows, 0]];
    return data.axes[by].shown.map((text, v) => [`${by} ${text}`, rows.filter((i) => data.place[by][i] === v), v]);
  }

  function build() {
    const rows = [...Array(count).keys()].filter((i) => metric("s", i) !== null && metric("t", i) !== null);
    const dots = groups(rows).map(([name, members, v]) => ({
      x: members.map((i) => metric("t", i)), y: members.map((i) => metric("s", i)), customdata: members, name: plain(name), mode: "markers", type: "scatter",
      text: members.map((i) => plain(`${rowWords(i)}  ${scoreWords(i)}`)), hovertemplate: "%{text}<extra></extra>",
      marker: { color: color(`c${v}`), size: rows.length > 500 ? 5 : 8, opacity: rows.length > 500 ? 0.6 : 0.85,
        symbol: members.map((i) => (data.vetoes[i].length ? "x-thin-open" : "circle")) },
    }));
    const front = data.pareto.filter((i) => metric("s", i) !== null).sort((a, b) => metric("t", a) - metric("t", b));
    const line = { x: front.map((i) => metric("t", i)), y: front.map((i) => metric("s", i)), mode: "lines", line: { color: color("soft"), width: 1.5 }, hoverinfo: "skip", showlegend: false };
    const star = (i, symbol, name) => ({ x: [metric("t", i)], y: [metric("s", i)], customdata: [i], mode: "markers", name,
      marker: { symbol, size: 17, color: color("accent"), line: { color: color("paper"), width: 1.5 } }, hovertemplate: `${plain(rowWords(i))}<extra></extra>` });
    const special = [];
    if (data.knee !== null && data.knee !== data.best) special.push(star(data.knee, "diamond-open", "knee"));
    if (data.best !== null) special.push(star(data.best, "star", "sweet spot"));
    return [[line, ...dots, ...special], {
      showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, margin: { l: 46, r: 10, t: 30, b: 44 },
      xaxis: { title: { text: titleOf("t") } }, yaxis: { title: { text: titleOf("s") } },
    }];
  }

  if (data.metrics.s) {
    const div = byId("pareto-plot");
    const options = axisNames.filter((name) => data.axes[name].values.length <= 8);
    byId("pareto-controls").append(select("colour", options.map((name) => [name, name]), by, (name) => { by = name; drawings.get(div)(); }));
    draw(div, build).then(() => {
      div.on("plotly_hover", (event) => { const i = event.points[0].customdata; if (i !== undefined) preview(i); });
      div.on("plotly_click", (event) => { const i = event.points[0].customdata; if (i !== undefined) openCell(i); });
    });
    if (data.ranked.length) preview(data.best ?? data.ranked[0]);
  } else {
    byId("pareto").remove();
  }
}
