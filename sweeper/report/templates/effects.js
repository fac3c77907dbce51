"use strict";
{
  let name = Object.keys(data.effects)[0];
  let pair = null;
  const threshold = 0.005; // of the variance: below it a term is not listed

  const axesOf = (n) => Object.keys(data.effects[n].levels).filter((axis) => data.effects[n].levels[axis]);
  const shownTerm = (term) => term.join(" × ");

  function levelPlots() {
    const { levels } = data.effects[name];
    const ends = Object.values(levels).filter(Boolean).flat().flatMap((l) => [l.low ?? l.mean, l.high ?? l.mean]);
    const room = 0.06 * (Math.max(...ends) - Math.min(...ends)) || 0.05;
    const axes = axesOf(name);
    const divs = plots(byId("level-plots"), axes);
    for (const [k, axis] of axes.entries()) {
      const found = levels[axis];
      draw(divs[k], () => [[{
        x: data.axes[axis].shown.map(plain), y: found.map((l) => l.mean), mode: "lines+markers", line: { color: color("line"), width: 2 },
        marker: { color: color("s"), size: 9 }, hovertemplate: "%{x}: %{y:.3f}<extra></extra>",
        error_y: { type: "data", array: found.map((l) => (l.high === null ? 0 : l.high - l.mean)), color: color("s"), thickness: 1.5, width: 4 },
      }], { xaxis: { type: "category" }, yaxis: { range: [Math.min(...ends) - room, Math.max(...ends) + room] } }]);
    }
  }

  function sharePlot() {
    const terms = data.effects[name].shares.filter((entry) => entry.share > threshold).slice(0, 12).toReversed();
    const text = terms.map((entry) => `${(100 * entry.share).toFixed(entry.share < 0.1 ? 1 : 0)} %`);
    return [[{
      type: "bar", orientation: "h", y: terms.map((entry) => plain(shownTerm(entry.term))), x: terms.map((entry) => entry.share), text, textposition: "outside", cliponaxis: false,
      marker: { color: terms.map((entry) => color(entry.term.length > 1 ? "t" : "s")) }, hovertemplate: "%{y}: %{text}<extra></extra>",
    }], { xaxis: { tickformat: ".0%", rangemode: "tozero", nticks: 5 }, yaxis: { type: "category" }, margin: { l: 10, r: 44, t: 8, b: 34 } }];
  }

  function pairPlot() {
    const [a, b] = pair.split("|");
    const means = data.effects[name].pairs[pair];
    const lines = data.axes[b].shown.map((text, v) => ({
      x: data.axes[a].shown.map(plain), y: means.map((row) => row[v]), name: plain(`${b} ${text}`), mode: "lines+markers",
      line: { color: color(`c${v % 8}`), width: 2 }, marker: { size: 7 }, hovertemplate: "%{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
    }));
    return [lines, { showlegend: true, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 }, xaxis: { type: "category", title: { text: plain(a) } }, margin: { l: 42, r: 10, t: 34, b: 40 } }];
  }

  function strongest() {
    const crossed = data.effects[name].shares.find((entry) => entry.term.length > 1);
    return crossed ? crossed.term.join("|") : null;
  }

  function show() {
    levelPlots();
    const several = axesOf(name).length > 1 && data.effects[name].shares.length > 0;
    byId("together").hidden = !several;
    byId("pair-plot").parentElement.hidden = !pair;
    if (several) draw(byId("share-plot"), sharePlot);
    if (several && pair) {
      draw(byId("pair-plot"), pairPlot);
      byId("pair-title").textContent = `${pair.split("|").join(" and ")} together`;
    }
  }

  function controls() {
    const metrics = Object.keys(data.effects).map((n) => [n, titleOf(n)]);
    const pairs = Object.keys(data.effects[name].pairs).map((key) => [key, key.split("|").join(" and ")]);
    const fields = [select("of", metrics, name, (n) => { name = n; pair = strongest(); controls(); show(); })];
    if (pairs.length > 1) fields.push(select("together", pairs, pair, (key) => { pair = key; show(); }));
    byId("effect-controls").replaceChildren(...fields);
  }

  if (name && Object.values(data.effects[name].levels).some(Boolean)) {
    pair = strongest();
    controls();
    show();
  } else {
    byId("effects").remove();
  }
}
