"use strict";

/* What Python gives to the scripts: the TypedDicts of the same names in sweeper/report/page_data.py, page_images.py and
 * effects.py. tests/sweeper/report/test_types.py compares the names of the properties. */

/**
 * Lists hold an entry for each row of the results; positions are positions in them.
 * @typedef {object} PageData
 * @property {Object<string, PageAxis>} axes those along which cells are laid out
 * @property {Object<string, number[]>} place for each of `axes`, the position of each row's value; -1: none
 * @property {Object<string, string[]>} varying what tells the rows apart, as typed
 * @property {Object<string, (number|null)[]>} metrics
 * @property {Object<string, PageMetric>} about of each of `metrics`
 * @property {Object<string, [number|null, number|null][]>} intervals low and high, of those metrics that have them
 * @property {string[]} state COMPLETE, PRUNED, FAIL, ...
 * @property {boolean[]} asked false: evaluated on the way
 * @property {string[]} reason
 * @property {string[][]} vetoes
 * @property {(string|null)[]} checkpoint paths; empty where there are too many
 * @property {(number|null)[]} onset the step at which overfitting began on the row's curve
 * @property {number[]} ranked positions, best first
 * @property {number|null} best
 * @property {number[]} region
 * @property {number[]} pareto
 * @property {number|null} knee
 * @property {Object<string, Effects>} effects by metric
 * @property {string[]} prompts
 */
/**
 * @typedef {object} PageAxis
 * @property {any[]} values
 * @property {string[]} shown the same as typed
 * @property {boolean} log compared by their ratio
 */
/**
 * @typedef {object} PageMetric
 * @property {string} title
 * @property {string} description
 */
/**
 * @typedef {object} Effects
 * @property {Object<string, Level[]|null>} levels by axis
 * @property {Share[]} shares
 * @property {Object<string, (number|null)[][]>} pairs by "a|b": the mean for each pair of values
 */
/**
 * @typedef {object} Level
 * @property {number} mean
 * @property {number|null} low
 * @property {number|null} high
 * @property {number} blocks that it is the mean of
 */
/**
 * @typedef {object} Share
 * @property {string[]} term one axis, or two that interact
 * @property {number} share of the variance
 */
/**
 * A strip is one image with the tiles of a checkpoint side by side, a data URI.
 * @typedef {object} PageImages
 * @property {ImageTile[]} tiles of every strip, from left to right
 * @property {number} size pixels of a tile
 * @property {(string|null)[]} rows the strip of each row, where there is one
 * @property {(string|null)[]} untuned the strips of the untuned model
 * @property {number[]} untuned_of for each row, the position of its strip in `untuned`
 */
/**
 * Which sample a place in a strip shows, counted from 0.
 * @typedef {object} ImageTile
 * @property {number} prompt
 * @property {number} image
 */

/** @type {PageData} */
const data = JSON.parse(document.getElementById("data").textContent);
/** @type {PageImages} */
const images = JSON.parse(document.getElementById("images").textContent);
const count = data.state.length;
const axisNames = Object.keys(data.axes);
const region = new Set(data.region);
if (images.size >= 128) document.body.classList.add("smooth");

/** An element with properties and children; text is always set as text. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

const byId = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const plain = (text) => String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;"); // plotly reads some tags
const number = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const metric = (name, i) => (data.metrics[name] ? data.metrics[name][i] : null);
const titleOf = (name) => data.about[name]?.title ?? name; // of a metric; an axis is called as it is typed
const aboutOf = (name) => data.about[name]?.description ?? "";

/** A row in the words of what varies. */
function rowWords(i, without = []) {
  const names = Object.keys(data.varying).filter((name) => !without.includes(name));
  return names.map((name) => `${name}=${data.varying[name][i]}`).join(" ");
}

function scoreWords(i) {
  return ["s", "t", "score"].filter((name) => metric(name, i) !== null).map((name) => `${name} ${number(metric(name, i))}`).join("  ");
}

/** The square `tile` of a strip as an element; without an image, the reason why. */
function tileOf(strip, tile, label, fallback = "not in this page") {
  const box = make("button", { className: "tile", type: "button", title: label, ariaLabel: label });
  if (!strip) {
    box.textContent = fallback;
    box.classList.add("fault");
    return box;
  }
  const last = images.tiles.length - 1;
  box.style.backgroundImage = `url("${strip}")`;
  box.style.backgroundSize = `${100 * (last + 1)}% 100%`;
  box.style.backgroundPosition = `${last ? (100 * tile) / last : 0}% 0`;
  return box;
}

function cellTile(i, tile) {
  const failed = data.state[i] !== "COMPLETE";
  const box = tileOf(images.rows[i], tile, rowWords(i), failed ? `${data.state[i]} ${data.reason[i]}` : undefined);
  box.classList.toggle("chosen", i === data.best);
  box.classList.toggle("region", region.has(i) && i !== data.best);
  box.addEventListener("click", (event) => { event.stopPropagation(); openCell(i); });
  return box;
}

const tileWords = (tile) => (data.prompts[tile.prompt] ?? `prompt ${tile.prompt + 1}`) + (tile.image ? `, noise ${tile.image + 1}` : "");

/** A labelled select; `options` are [value, words]; calls `change` with the value. */
function select(words, options, value, change) {
  const field = make("select", {}, ...options.map(([v, text]) => make("option", { value: v, textContent: text })));
  field.value = value;
  field.addEventListener("change", () => change(field.value));
  return make("label", {}, words, field);
}

/** Selects for every axis not in `without`; keeps the chosen positions in `state`. */
function axisSelects(state, without, change) {
  return axisNames.filter((name) => !without.includes(name)).map((name) =>
    select(name, data.axes[name].shown.map((text, v) => [v, text]), state[name], (v) => { state[name] = Number(v); change(); }));
}

/** Positions on the axes of the chosen row, or of the best one there is. */
function startPlace() {
  const i = data.best ?? data.ranked[0];
  return Object.fromEntries(axisNames.map((name) => [name, Math.max(0, data.place[name][i] ?? 0)]));
}

const rowIndex = new Map();
for (let i = 0; i < count; i++) rowIndex.set(axisNames.map((name) => data.place[name][i]).join(), i);
const rowAt = (place) => rowIndex.get(axisNames.map((name) => place[name]).join());

const drawings = new Map(); // plot -> how to paint it

/** Draws with plotly in the page's colours, and again when they change. `build` returns [traces, layout]. */
function draw(div, build) {
  const paint = () => {
    const [traces, layout] = build();
    const axis = { gridcolor: color("line"), linecolor: color("line"), zeroline: false, fixedrange: true, automargin: true };
    const base = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 42, r: 10, t: 8, b: 38 },
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: color("soft") },
      showlegend: false, hovermode: "closest", dragmode: false,
      hoverlabel: { bgcolor: color("panel"), bordercolor: color("line"), font: { color: color("ink") } },
      ...layout,
      xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
    };
    return Plotly.react(div, traces, base, { displayModeBar: false, responsive: true });
  };
  drawings.set(div, paint);
  return paint();
}

/** Empty places for plots under their titles, all laid out before the first is drawn. */
function plots(box, titles) {
  const divs = titles.map(() => make("div", { className: "plot" }));
  box.replaceChildren(...titles.map((title, k) => make("div", {}, make("h3", { className: "title", textContent: title }), divs[k])));
  return divs;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const [div, paint] of drawings) div.isConnected ? paint() : drawings.delete(div);
});

function openCell(i) {
  const tiles = images.tiles.map((tile, k) => {
    const box = tileOf(images.rows[i], k, tileWords(tile));
    return make("div", {}, box, make("div", { className: "caption note", textContent: tileWords(tile) }));
  });
  const facts = Object.keys(data.metrics).filter((name) => metric(name, i) !== null).map((name) => {
    const interval = data.intervals[name]?.[i];
    const ends = interval && interval[0] !== null ? make("small", { textContent: ` ${number(interval[0])} to ${number(interval[1])}` }) : null;
    return make("div", {}, make("dt", { textContent: titleOf(name), title: aboutOf(name) }), make("dd", {}, number(metric(name, i), 3), ends));
  });
  const lines = [data.reason[i], ...data.vetoes[i].map((veto) => `Veto: ${veto}`), data.checkpoint[i]].filter(Boolean);
  const close = make("button", { type: "button", textContent: "Close" });
  close.addEventListener("click", () => byId("cell").close());
  byId("cell").replaceChildren(make("h3", { textContent: rowWords(i) }), ...lines.map((line) => make("p", { className: "note", textContent: line })),
    make("div", { className: "mosaic" }, ...(images.rows[i] ? tiles : [])), make("dl", { className: "facts" }, ...facts), close);
  byId("cell").showModal();
}

byId("cell").addEventListener("click", (event) => { if (event.target === byId("cell")) byId("cell").close(); });
byId("copy")?.addEventListener("click", async () => {
  await navigator.clipboard.writeText(byId("snippet").textContent);
  byId("copy").textContent = "Copied";
});
for (const span of document.querySelectorAll("[data-words]")) span.textContent = rowWords(Number(span.dataset.words));
for (const box of document.querySelectorAll("[data-rows]")) {
  for (const i of box.dataset.rows.split(",").map(Number)) {
    box.append(make("div", {}, cellTile(i, 0), make("div", { className: "caption", textContent: `${rowWords(i)}: ${data.vetoes[i].join("; ")}` })));
  }
}
