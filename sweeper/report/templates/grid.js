"use strict";
{
  const prompts = images.tiles.length > 1 ? ["prompt"] : [];
  const sides = [...axisNames, ...prompts]; // what may run down or across
  const place = { ...startPlace(), prompt: 0 };
  const most = 40;
  const length = (name) => (name === "prompt" ? images.tiles.length : data.axes[name].values.length);
  const words = (name, v) => (name === "prompt" ? tileWords(images.tiles[v]) : `${name} ${data.axes[name].shown[v]}`);

  const others = axisNames.filter((name) => name !== "steps");
  let down = others.find((name) => data.axes[name].log || name === "settings") ?? others[0] ?? "steps";
  let across = others.find((name) => name !== down && length(name) === 2) ?? others.find((name) => name !== down && length(name) <= 12) ?? prompts[0] ?? axisNames.find((name) => name !== down);

  const along = (name) => (name ? [...Array(Math.min(most, length(name))).keys()].map((v) => ({ [name]: v })) : [{}]);
  const header = (at, scope) => make("th", { scope, textContent: Object.entries(at).map(([name, v]) => words(name, v)).join() });

  function cell(at) {
    const i = rowAt(at);
    if (i === undefined) return make("td");
    const late = data.onset[i] !== null && data.axes.steps?.values[at.steps] >= data.onset[i];
    const caption = [metric("score", i) === null ? "" : `score ${number(metric("score", i))}`, data.vetoes[i].length ? "veto" : "", late ? "overfit" : ""];
    return make("td", {}, cellTile(i, at.prompt), make("div", { className: "caption", textContent: caption.filter(Boolean).join(" · ") }));
  }

  function untuned(at) {
    const i = rowAt(at) ?? data.ranked[0];
    const box = tileOf(images.untuned[images.untuned_of[i]], at.prompt, `untuned model: ${tileWords(images.tiles[at.prompt])}`);
    box.addEventListener("click", () => openUntuned(i, at.prompt));
    return make("td", {}, box);
  }

  function show() {
    byId("grid-prompt").textContent = down === "prompt" || across === "prompt" ? "" : `“${words("prompt", place.prompt)}”`;
    const columns = along(across).map((at) => ({ ...place, ...at }));
    byId("raster").replaceChildren(
      make("tr", {}, make("td"), ...along(across).map((at) => header(at, "col"))),
      make("tr", {}, make("th", { scope: "row", textContent: "untuned model" }), ...columns.map(untuned)),
      ...along(down).map((row) => make("tr", {}, header(row, "row"), ...columns.map((column) => cell({ ...column, ...row })))));
  }

  function stepSlider() {
    const output = make("output");
    const input = make("input", { type: "range", min: 0, max: length("steps") - 1, value: place.steps, ariaLabel: "steps" });
    const update = () => { place.steps = Number(input.value); output.textContent = words("steps", place.steps); };
    input.addEventListener("input", () => { update(); show(); });
    update();
    return make("label", {}, output, input);
  }

  function choice(name) {
    if (name === "steps") return stepSlider();
    const options = [...Array(length(name)).keys()].map((v) => [v, name === "prompt" ? words(name, v) : data.axes[name].shown[v]]);
    return select(name, options, place[name], (v) => { place[name] = Number(v); show(); });
  }

  function controls() {
    const fixed = sides.filter((name) => name !== down && name !== across).sort((a, b) => (b === "steps") - (a === "steps"));
    const names = sides.map((name) => [name, name]);
    const fields = fixed.map(choice);
    if (sides.length > 1) {
      fields.push(select("down", names, down, (name) => { if (name === across) across = down; down = name; controls(); show(); }));
      fields.push(select("across", names, across, (name) => { if (name === down) down = across; across = name; controls(); show(); }));
    }
    byId("grid-controls").replaceChildren(...fields);
  }

  if (images.tiles.length && count) {
    controls();
    show();
    const carried = images.rows.filter(Boolean).length;
    const complete = data.state.filter((state) => state === "COMPLETE").length;
    const lacking = carried < complete ? ` This page carries the images of ${carried.toLocaleString("en")} of ${complete.toLocaleString("en")} checkpoints.` : "";
    byId("grid-note").textContent = `Framed: the sweet spot; dashed: as good. An image opens at full size, with all prompts of its checkpoint.${lacking}`;
  } else {
    byId("grid").remove();
  }
}
