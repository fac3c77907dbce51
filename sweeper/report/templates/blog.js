"use strict";

/* What Python gives to this script: the TypedDicts of the same names in sweeper/blog/page.py.
 * tests/sweeper/blog/test_page.py compares the names of the properties. */

/**
 * The plots of a claim, one for each measure.
 * @typedef {object} BlogFigure
 * @property {number} number of the claim
 * @property {string[]} labels of its conditions
 * @property {BlogPlot[]} plots
 */
/**
 * @typedef {object} BlogPlot
 * @property {string} title
 * @property {[number, number, number][]} values of each label of the figure: mean, low, high
 */
{
  /** @type {BlogFigure[]} */
  const claims = JSON.parse(document.getElementById("data").textContent);
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;"); // plotly reads some tags
  const drawings = [];

  /** Values with their intervals, one line for each condition, the first on top. */
  function draw(div, labels, values) {
    const axis = { gridcolor: color("line"), linecolor: color("line"), zerolinecolor: color("soft"), fixedrange: true, automargin: true };
    const [mean, low, high] = [0, 1, 2].map((k) => values.map((value) => value[k]));
    const dots = {
      x: mean, y: labels.map(plain), mode: "markers", marker: { size: 9, color: color("s") },
      error_x: { type: "data", symmetric: false, array: mean.map((m, i) => high[i] - m), arrayminus: mean.map((m, i) => m - low[i]), color: color("s"), thickness: 1.5, width: 4 },
      customdata: values, hovertemplate: "%{y}<br>%{x:.3f}<br>%{customdata[1]:.3f} to %{customdata[2]:.3f}<extra></extra>",
    };
    Plotly.react(div, [dots], {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 10, r: 12, t: 6, b: 30 }, height: 60 + 26 * labels.length,
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("soft") }, showlegend: false, dragmode: false,
      hoverlabel: { bgcolor: color("panel"), bordercolor: color("line"), font: { color: color("ink") } },
      xaxis: axis, yaxis: { ...axis, type: "category", autorange: "reversed" },
    }, { displayModeBar: false, responsive: true });
  }

  for (const { number, labels, plots } of claims) {
    const box = document.getElementById(`plots-${number}`);
    for (const plot of box ? plots : []) {
      const title = Object.assign(document.createElement("h3"), { className: "title", textContent: plot.title });
      const div = document.createElement("div");
      const both = document.createElement("div");
      both.append(title, div);
      box.append(both);
      drawings.push(() => draw(div, labels, plot.values));
    }
  }
  const paint = () => drawings.forEach((drawing) => drawing());
  paint();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
}
