"use strict";
{
  const slider = axisNames.includes("steps") ? "steps" : null;
  const free = axisNames.filter((name) => name !== slider);
  const place = startPlace();
  let tile = 0;
  let down = free.find((name) => name === "lr") ?? free.find((name) => name === "run") ?? free[0] ?? null;
  let right = free.find((name) => name !== down && data.axes[name].values.length <= 12) ?? null;
  const most = 40;

  const header = (axis, v) => make("th", { textContent: axis ? `${axis} ${data.axes[axis].shown[v]}` : "" });

  function cell(at) {
    const i = rowAt(at);
    if (i === undefined) return make("td");
    const late = slider && data.onset[i] !== null && data.axes[slider].values[at[slider]] >= data.onset[i];
    const caption = [metric("score", i) === null ? "" : `score ${number(metric("score", i))}`, data.vetoes[i].length ? "veto" : "", late ? "overfit" : ""];
    return make("td", {}, cellTile(i, tile), make("div", { className: "caption", textContent: caption.filter(Boolean).join(" · ") }));
  }

  function show() {
    const columns = right ? data.axes[right].values.map((_, v) => v) : [null];
    const rows = (down ? data.axes[down].values.map((_, v) => v) : [null]).slice(0, most);
    const untuned = columns.map((c) => {
      const i = rowAt({ ...place, ...(right ? { [right]: c } : {}) }) ?? data.ranked[0];
      return make("td", {}, tileOf(images.untuned[images.untuned_of[i]], tile, "untuned model"));
    });
    const body = rows.map((r) => make("tr", {}, header(down, r), ...columns.map((c) => cell({ ...place, ...(down ? { [down]: r } : {}), ...(right ? { [right]: c } : {}) }))));
    byId("raster").replaceChildren(make("tr", {}, make("th"), ...columns.map((c) => header(right, c))),
      make("tr", {}, make("th", { textContent: "untuned model" }), ...untuned), ...body);
  }

  function stepSlider() {
    const words = make("output");
    const input = make("input", { type: "range", min: 0, max: data.axes[slider].values.length - 1, value: place[slider] });
    const update = () => { place[slider] = Number(input.value); words.textContent = `steps ${data.axes[slider].shown[place[slider]]}`; };
    input.addEventListener("input", () => { update(); show(); });
    update();
    return make("label", {}, words, input);
  }

  function controls() {
    const sides = free.map((name) => [name, name]);
    const fields = [];
    if (slider) fields.push(stepSlider());
    if (images.tiles.length > 1) fields.push(select("prompt", images.tiles.map((t, k) => [k, tileWords(t)]), tile, (k) => { tile = Number(k); show(); }));
    fields.push(...axisSelects(place, [slider, down, right], show));
    if (free.length > 1) {
      fields.push(select("down", sides, down, (name) => { if (name === right) right = down; down = name; controls(); show(); }));
      fields.push(select("across", sides, right, (name) => { if (name === down) down = right; right = name; controls(); show(); }));
    }
    byId("grid-controls").replaceChildren(...fields);
  }

  if (images.tiles.length) {
    controls();
    show();
    const carried = images.rows.filter(Boolean).length;
    const lacking = carried < count ? ` This page carries the images of ${carried} of ${count} checkpoints.` : "";
    byId("grid-note").textContent = `Framed: the sweet spot; dashed: as good as it. Click an image for all of its prompts.${lacking}`;
  } else {
    byId("grid").remove();
  }
}
