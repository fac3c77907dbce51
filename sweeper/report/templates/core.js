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
 * @property {string|null} order the metric that they are in order of, the ruled out and the unfinished aside
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
 * @property {string} description with the unit, the better direction and what measured it
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
 * @property {number} full pixels of the sample itself
 * @property {(string|null)[]} rows the strip of each row, where there is one
 * @property {(string|null)[]} untuned the strips of the untuned model
 * @property {number[]} untuned_of for each row, the position of its strip in `untuned`
 * @property {(string|null)[]} folders of the samples of each row, seen from the page; empty where there are too many
 * @property {(string|null)[]} untuned_folders the same of `untuned`
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

/** Shows the square `tile` of a strip as the background of a box. */
function paintTile(box, strip, tile) {
  const last = images.tiles.length - 1;
  box.style.backgroundImage = `url("${strip}")`;
  box.style.backgroundSize = `${100 * (last + 1)}% 100%`;
  box.style.backgroundPosition = `${last ? (100 * tile) / last : 0}% 0`;
  return box;
}

/** The square `tile` of a strip as a button; without an image, the reason why. */
function tileOf(strip, tile, label, fallback = "not in this page") {
  const box = make("button", { className: "tile", type: "button", title: label, ariaLabel: label });
  if (strip) return paintTile(box, strip, tile);
  box.append(make("span", { textContent: fallback }));
  box.ariaLabel = `${label}: ${fallback}`;
  box.classList.add("fault");
  return box;
}

function cellTile(i, tile) {
  const failed = data.state[i] !== "COMPLETE";
  const words = images.tiles[tile] ? `${rowWords(i)}: ${tileWords(images.tiles[tile])}` : rowWords(i);
  const box = tileOf(images.rows[i], tile, words, failed ? `${data.state[i]} ${data.reason[i]}` : undefined);
  box.classList.toggle("chosen", i === data.best);
  box.classList.toggle("region", region.has(i) && i !== data.best);
  box.addEventListener("click", (event) => { event.stopPropagation(); openCell(i, tile); });
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

/** One image as large as it is: the file itself where it is larger than what the page carries. */
function largeImage(carried, original, words) {
  if (!original) return carried;
  const image = make("img", { src: original, alt: words, className: "large" });
  image.addEventListener("error", () => image.replaceWith(carried)); // the page was taken elsewhere
  return image;
}

/** The `tile` of a strip, large, under its prompt. */
function largeTile(strip, tile, folder) {
  const { prompt, image } = images.tiles[tile];
  const words = tileWords(images.tiles[tile]);
  const file = folder && `${folder}/${String(prompt).padStart(2, "0")}-${String(image).padStart(2, "0")}.png`;
  const carried = paintTile(make("div", { className: "tile large", role: "img", ariaLabel: words }), strip, tile);
  const link = file ? make("a", { href: file, textContent: `the file, ${images.full} × ${images.full} pixels` }) : null;
  return make("figure", {}, largeImage(carried, images.full > images.size ? file : "", words), make("figcaption", {}, words, link && " · ", link));
}

/** Opens the dialog with a title, a large image that the tiles below it change, and more elements. */
function openDialog(title, large, ...more) {
  const close = make("button", { type: "button", textContent: "Close" });
  close.addEventListener("click", () => byId("cell").close());
  byId("cell").replaceChildren(make("h3", { id: "cell-title", textContent: title }), large, ...more, close);
  if (!byId("cell").open) byId("cell").showModal();
}

/** All images of a strip, the chosen one large. */
function showStrip(title, strip, folder, chosen, ...more) {
  const large = make("div", {}, strip ? largeTile(strip, chosen, folder) : "");
  const tiles = images.tiles.map((tile, k) => {
    const box = tileOf(strip, k, tileWords(tile));
    box.addEventListener("click", () => large.replaceChildren(largeTile(strip, k, folder)));
    return make("div", {}, box, make("div", { className: "caption note", textContent: tileWords(tile) }));
  });
  openDialog(title, large, make("div", { className: "mosaic" }, ...(strip ? tiles : [])), ...more);
}

function openUntuned(i, tile) {
  const k = images.untuned_of[i];
  showStrip("Untuned model", images.untuned[k], images.untuned_folders[k], tile);
}

/** A checkpoint: its images, what was measured, and where it lies. */
function openCell(i, tile = 0) {
  const facts = Object.keys(data.metrics).filter((name) => metric(name, i) !== null).map((name) => {
    const interval = data.intervals[name]?.[i];
    const ends = interval && interval[0] !== null ? make("small", { textContent: ` ${number(interval[0])} to ${number(interval[1])}` }) : null;
    return make("div", {}, make("dt", { textContent: titleOf(name), title: aboutOf(name) }), make("dd", {}, number(metric(name, i), 3), ends));
  });
  const state = data.state[i] === "COMPLETE" ? "" : data.state[i];
  const lines = [[state, data.reason[i]].filter(Boolean).join(": "), ...data.vetoes[i].map((veto) => `Ruled out: ${veto}`), data.checkpoint[i]].filter(Boolean);
  showStrip(rowWords(i), images.rows[i], images.folders[i], tile, ...lines.map((line) => make("p", { className: "note", textContent: line })),
    make("dl", { className: "facts" }, ...facts));
}

byId("cell").addEventListener("click", (event) => { if (event.target === byId("cell")) byId("cell").close(); });
for (const button of document.querySelectorAll("button.picture")) {
  button.addEventListener("click", () => {
    const { title, prompt: words, original } = button.dataset;
    const carried = make("img", { src: button.querySelector("img").src, alt: words, className: "large" });
    openDialog(title, make("figure", {}, largeImage(carried, original, words), make("figcaption", { textContent: words })));
  });
}
for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", async () => {
    const text = button.parentElement.querySelector("pre");
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch { // no permission: selected, so that a key copies it
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
  });
}
if (document.querySelector(".running")) setInterval(() => { if (!byId("cell").open) location.reload(); }, 60_000);
for (const span of document.querySelectorAll("[data-words]")) span.textContent = rowWords(Number(span.dataset.words));
for (const box of document.querySelectorAll("[data-rows]")) {
  for (const i of box.dataset.rows.split(",").map(Number)) {
    box.append(make("div", {}, cellTile(i, 0), make("div", { className: "caption", textContent: `${rowWords(i)}: ${data.vetoes[i].join("; ")}` })));
  }
}
