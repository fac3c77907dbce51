"use strict";
{
  // The axis that runs to the right; one plot for each value of `facet`.
  const across = axisNames.includes("steps") ? "steps" : axisNames[0];
  const facet = axisNames.find((name) => (data.axes[name].log || name === "settings") && name !== across);
  // Two values of an axis stand side by side.
  const two = axisNames.find((name) => data.axes[name].values.length === 2 && name !== across && name !== facet);
  const place = startPlace();
  const most = 12;

  /** The places of the plots, one a row of `facet` and a column of `two`. */
  function facets() {
    const values = (name) => (name ? data.axes[name].values.map((_, v) => ({ [name]: v })) : [{}]);
    return values(facet).slice(0, most).flatMap((at) => values(two).map((beside) => ({ ...at, ...beside })));
  }

  function rowsAlong(fixed) {
    const at = { ...place, ...fixed };
    return data.axes[across].values.map((_, v) => rowAt({ ...at, [across]: v }));
  }

  function curve(name, rows, hue) {
    const there = rows.map((i, v) => [i, v]).filter(([i]) => i !== undefined && metric(name, i) !== null);
    const untuned = name === "s" ? 0 : 1; // which is what s and t are measured from
    const fromUntuned = across === "steps" && there.length > 0;
    const x = there.map(([, v]) => data.axes[across].values[v]);
    const ends = there.map(([i]) => data.intervals[name]?.[i] ?? [null, null]);
    const band = there.length > 1 && ends.every(([low]) => low !== null);
    const line = {
      x, y: there.map(([i]) => metric(name, i)), name, mode: "lines+markers", line: { color: hue, width: 2.5 }, marker: { size: 7, color: hue },
      customdata: there.map(([i]) => i), text: there.map(([i], k) => `${name} ${number(metric(name, i))} [${number(ends[k][0])}, ${number(ends[k][1])}]`),
      hovertemplate: `${plain(across)} %{x}<br>%{text}<extra></extra>`,
    };
    if (fromUntuned) {
      for (const [list, first] of [[line.x, 0], [line.y, untuned], [line.customdata, null], [line.text, "untuned model"], [ends, [untuned, untuned]]]) list.unshift(first);
      line.marker.symbol = ["circle-open", ...there.map(() => "circle")];
    }
    const shade = {
      x: [...x, ...x.toReversed()], y: [...ends.map(([low]) => low), ...ends.map(([, high]) => high).toReversed()], fill: "toself", fillcolor: hue,
      opacity: 0.14, line: { width: 0 }, mode: "lines", hoverinfo: "skip",
    };
    return band ? [shade, line] : [line];
  }

  /** The region, the onset and the chosen checkpoint of one plot, as plotly shapes. */
  function marks(rows) {
    const values = data.axes[across].values;
    const shapes = [];
    const vertical = (x0, x1, more) => shapes.push({ type: "rect", xref: "x", yref: "paper", y0: 0, y1: 1, x0, x1, line: { width: 0 }, layer: "below", ...more });
    const last = values.length - 1;
    rows.forEach((i, v) => {
      if (!region.has(i) || last < 1 || typeof values[v] !== "number") return;
      const left = v ? (values[v - 1] + values[v]) / 2 : values[0] - (values[1] - values[0]) / 4;
      const right = v < last ? (values[v + 1] + values[v]) / 2 : values[last] + (values[last] - values[last - 1]) / 4;
      vertical(left, right, { fillcolor: color("accent"), opacity: 0.12 });
    });
    const onset = rows.filter((i) => i !== undefined).map((i) => data.onset[i]).find((step) => step !== null);
    if (across === "steps" && onset !== undefined) vertical(onset, onset, { type: "line", line: { width: 2, dash: "dash", color: color("soft") } });
    if (rows.includes(data.best)) {
      const x = values[rows.indexOf(data.best)];
      vertical(x, x, { type: "line", line: { width: 2, color: color("accent") } });
    }
    return shapes;
  }

  function show() {
    const shown = facets();
    byId("curve-plots").classList.toggle("pairs", Boolean(facet && two));
    const divs = plots(byId("curve-plots"), shown.map((at) => Object.entries(at).map(([name, v]) => `${name} ${data.axes[name].shown[v]}`).join(" · ")));
    for (const [k, at] of shown.entries()) {
      draw(divs[k], () => {
        const rows = rowsAlong(at);
        const values = data.axes[across].values;
        const numeric = values.every((v) => typeof v === "number");
        const first = across === "steps" ? ["0"] : [];
        const few = values.length <= 6 ? { tickmode: "array", tickvals: [...first.map(Number), ...values], ticktext: [...first, ...data.axes[across].shown.map(plain)] } : { nticks: 6 };
        const log = numeric && data.axes[across].log;
        return [[...curve("s", rows, color("s")), ...curve("t", rows, color("t"))], {
          xaxis: { title: { text: plain(across) }, type: log ? "log" : numeric ? "linear" : "category", ...few },
          yaxis: { range: [-0.12, 1.16], tickvals: [0, 0.25, 0.5, 0.75, 1] }, shapes: marks(rows),
        }];
      }).then(() => divs[k].on("plotly_click", (event) => { const i = event.points[0].customdata; if (i !== null) openCell(i); }));
    }
  }

  if (across && data.metrics.s) {
    byId("curve-controls").append(...axisSelects(place, [across, facet, two], show));
    show();
  } else {
    byId("curves").remove();
  }
}
