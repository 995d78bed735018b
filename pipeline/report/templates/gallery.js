// The gallery: filter, order, step through, zoom. Cards of the page are in its HTML; further ones are made here.
"use strict";
const data = JSON.parse(document.getElementById("gallery-data").textContent);
const items = data.items, element = (id) => document.getElementById(id);
const cards = new Map([...document.querySelectorAll(".card")].map((card, number) => [number, card]));
const byId = new Map(items.map((item, number) => [item.id, number]));
let shown = [], rendered = 0;
document.documentElement.classList.add("js");

// ---- Images beside the page, in parts of 16; a part is a script, because a page on disk may not read other files.
const parts = new Map();
const embedded = items.findIndex((item) => item.part !== undefined), firstPart = embedded < 0 ? items.length : embedded;
function addPart(number, images) { parts.get(number).resolve(images); }
function loadPart(number) {
  if (!parts.has(number)) {
    const part = {};
    part.images = new Promise((resolve, reject) => { part.resolve = resolve; part.reject = reject; });
    parts.set(number, part);
    const script = document.createElement("script");
    script.src = `images/part${number}.js`;
    script.onerror = () => part.reject(new Error(`${script.src} is missing: keep the folder images beside the page`));
    document.head.append(script);
  }
  return parts.get(number).images;
}
async function pictures(number) {
  const item = items[number];
  if (item.part === undefined) {
    const of = (place, kind) => cards.get(number).querySelector(`${place} .${kind}`)?.src;
    return { ...item, photo: of(".picture", "photo"), crop: of(".place", "photo") };
  }
  return { ...item, ...(await loadPart(item.part))[(number - firstPart) % 16] };
}

// ---- Cards
function describe(item) {
  const parts = [item.fold !== null && `fold ${item.fold}`, item.group && item.group !== item.id && `group ${item.group}`];
  return [...parts, ...Object.entries(item.attributes).map((pair) => pair.join(" "))].filter(Boolean).join(" · ");
}
function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
const near = new IntersectionObserver((entries) => {
  for (const entry of entries.filter((entry) => entry.isIntersecting)) {
    near.unobserve(entry.target);
    const number = byId.get(entry.target.dataset.id);
    pictures(number).then((found) => {
      entry.target.querySelector(".photo").src = found.photo;
      entry.target.querySelector(".over").src = found.overlay;
    }, (error) => entry.target.querySelector(".text").append(make("div", { textContent: error.message })));
  }
}, { rootMargin: "600px" });
function cardOf(number) {
  if (cards.has(number)) return cards.get(number);
  const item = items[number], picture = make("span", { className: "picture" });
  for (const kind of ["photo", "over"]) picture.append(make("img", { className: kind, alt: "", decoding: "async", src: "data:image/gif;base64,R0lGODlhAQABAAAAACw=" }));
  const open = make("a", { className: "open", href: `#image=${encodeURIComponent(item.id)}` }, make("span", { className: "pair single" }, picture));
  open.setAttribute("aria-label", `Open ${item.id}`);
  const score = make("span", { className: "score", textContent: item.score === null ? "" : item.score.toFixed(5) });
  const text = make("div", { className: "text" },
    make("div", { className: "name" }, score, make("a", { href: item.link, textContent: item.id })),
    make("div", { className: "note", textContent: describe(item) }),
    ...item.notes.map((note) => make("div", { textContent: note })));
  const card = make("li", { className: "card" }, open, text);
  card.dataset.id = item.id;
  cards.set(number, card);
  near.observe(card);
  return card;
}

// ---- Filter and order
const hash = (text) => { let value = 7; for (const c of text) value = Math.imul(value ^ c.charCodeAt(0), 2654435761); return value >>> 0; };
const scored = items.some((item) => item.score !== null);
const orders = {
  ...((data.orderLabel || !scored) && { [data.orderLabel || "as listed"]: (a, b) => a - b }),
  ...(scored && { "worst first": (a, b) => (items[a].score ?? 2) - (items[b].score ?? 2), "best first": (a, b) => (items[b].score ?? -1) - (items[a].score ?? -1) }),
  "by name": (a, b) => (items[a].id < items[b].id ? -1 : 1),
  random: (a, b) => hash(items[a].id) - hash(items[b].id),
};
const unique = (values) => [...new Set(values)].sort((a, b) => String(a).localeCompare(String(b), "en", { numeric: true }));
const options = (select, values, first) => select.replaceChildren(...(first ? [make("option", { value: "", textContent: first })] : []),
  ...values.map((value) => make("option", { value: String(value), textContent: String(value) })));
const filters = [];  // [select, value of an item]
function addFilter(name, valueOf) {
  const values = unique(items.map(valueOf).filter((value) => value !== null && value !== undefined && value !== ""));
  if (values.length < 2 || values.length > 400) return;
  const select = make("select");
  select.dataset.filter = name;
  options(select, values, "all");
  element("filters").append(make("label", { textContent: `${name} ` }, select));
  filters.push([select, valueOf]);
}
const sets = [...new Set(items.flatMap((item) => item.sets))];
options(element("set"), sets, `all ${items.length.toLocaleString("en")}`);
if (!sets.length) element("set").parentElement.remove();
options(element("order"), Object.keys(orders));
if (!scored) for (const id of ["low", "high"]) element(id).parentElement.remove();
addFilter("Fold", (item) => item.fold);
for (const name of new Set(items.flatMap((item) => Object.keys(item.attributes)))) addFilter(name, (item) => item.attributes[name]);
const limit = (id, otherwise) => (element(id)?.value ? Number(element(id).value) : otherwise);
function update() {
  const text = element("text").value.trim().toLowerCase(), set = element("set")?.value, low = limit("low", -1), high = limit("high", 2);
  shown = items.map((_, number) => number).filter((number) => {
    const item = items[number];
    return (!set || item.sets.includes(set)) && (!text || `${item.id} ${item.group}`.toLowerCase().includes(text))
      && (item.score === null || (item.score >= low && item.score <= high))
      && filters.every(([select, valueOf]) => !select.value || String(valueOf(item)) === select.value);
  }).sort(orders[element("order").value]);
  element("count").textContent = shown.length === items.length ? `${items.length.toLocaleString("en")} images`
    : `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")} images`;
  rendered = 0;
  element("cards").replaceChildren();
  renderMore();
}
function renderMore() {
  const next = shown.slice(rendered, rendered + 60);
  rendered += next.length;
  element("cards").append(...next.map(cardOf));
}
new IntersectionObserver((entries) => {
  if (entries.some((entry) => entry.isIntersecting) && rendered < shown.length) renderMore();
}, { rootMargin: "1500px" }).observe(element("more"));
for (const control of document.querySelectorAll(".controls select, .controls input")) control.addEventListener("input", () => control.id !== "marks" && update());
element("marks").addEventListener("change", (event) => element("cards").classList.toggle("plain-photos", !event.target.checked));
element("reset").addEventListener("click", () => {
  for (const control of document.querySelectorAll(".controls select")) control.selectedIndex = 0;
  for (const control of document.querySelectorAll(".controls input:not([type=checkbox])")) control.value = "";
  update();
});

// ---- Viewer
const viewer = element("viewer"), stage = element("stage"), canvas = element("canvas"), context = canvas.getContext("2d");
let current = -1, view = 0, image = null, layers = [], scale = 1, left = 0, top_ = 0, before = null;
const load = (source) => new Promise((resolve, reject) => {
  const picture = new Image();
  picture.onload = () => resolve(picture);
  picture.onerror = reject;
  picture.src = source;
});
async function open(number, keep) {
  current = number;
  const found = await pictures(number);
  const [photo, crop, ...maps] = await Promise.all([found.photo, found.crop, ...found.maps.map((map) => map[1])].map((source) => source && load(source)));
  if (number !== current) return;
  image = { ...found, photo, crop, indexes: maps.map(readIndexes) };
  const item = items[number], position = shown.indexOf(number) + 1;
  element("viewer-title").textContent = item.id;
  element("viewer-about").replaceChildren([item.score !== null && `${data.scoreLabel} ${item.score.toFixed(5)}`, describe(item), ...item.notes,
    position && `${position.toLocaleString("en")} of ${shown.length.toLocaleString("en")}`].filter(Boolean).join(" · ") + " · ", make("a", { href: item.link, textContent: "file" }));
  if (!viewer.open) { before = document.activeElement; viewer.showModal(); stage.focus(); }
  resize();
  if (!keep) fit();
  choose(view);
  history.replaceState(null, "", `#image=${encodeURIComponent(item.id)}`);
}
function readIndexes(map) {
  const reader = new OffscreenCanvas(map.width, map.height).getContext("2d", { willReadFrequently: true });
  reader.drawImage(map, 0, 0);
  const pixels = reader.getImageData(0, 0, map.width, map.height).data, indexes = new Uint8Array(map.width * map.height);
  for (let number = 0; number < indexes.length; number++) indexes[number] = (pixels[4 * number] + 16) >> 5;
  return { indexes, width: map.width, height: map.height };
}
function paint({ indexes, width, height }, wanted) {
  const target = new OffscreenCanvas(width, height), brush = target.getContext("2d"), out = brush.createImageData(width, height);
  const words = new Uint32Array(out.data.buffer), word = (color, opacity) => ((Math.round(255 * opacity) << 24) | (color[2] << 16) | (color[1] << 8) | color[0]) >>> 0;
  const table = new Uint32Array(8);
  for (const fill of wanted.fills) for (const index of fill.indexes) table[index] = word(fill.color, fill.opacity);
  for (let number = 0; number < words.length; number++) words[number] = table[indexes[number]];
  for (const { bit, color } of wanted.outlines) {
    const value = word(color, 1);
    for (let y = 0, number = 0; y < height; y++) for (let x = 0; x < width; x++, number++) {
      if (indexes[number] & bit && ((x && !(indexes[number - 1] & bit)) || (x + 1 < width && !(indexes[number + 1] & bit))
        || (y && !(indexes[number - width] & bit)) || (y + 1 < height && !(indexes[number + width] & bit)))) words[number] = value;
    }
  }
  brush.putImageData(out, 0, 0);
  return target;
}
function choose(number) {
  view = Math.min(number, data.views.length - 1);
  layers = image.indexes.map((map) => paint(map, data.views[view]));
  [...element("views").children].forEach((button, place) => button.setAttribute("aria-pressed", place === view));
  const legend = [...data.views[view].fills, ...data.views[view].outlines].filter((part) => part.label);
  element("viewer-legend").replaceChildren(...legend.map((part) => {
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = `rgb(${part.color.join(" ")})`;
    return make("li", {}, swatch, part.label);
  }));
  draw();
}
function resize() {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(stage.clientWidth * ratio);
  canvas.height = Math.round(stage.clientHeight * ratio);
}
function fitScale() { return Math.min(canvas.width / image.size[0], canvas.height / image.size[1]); }
function fit() { scale = fitScale(); center(image.size[0] / 2, image.size[1] / 2); }
function center(x, y) { left = canvas.width / 2 - x * scale; top_ = canvas.height / 2 - y * scale; }
function zoom(factor, x = canvas.width / 2, y = canvas.height / 2) {
  const wanted = Math.min(Math.max(scale * factor, fitScale() / 2), 64);
  left = x - (x - left) * (wanted / scale);
  top_ = y - (y - top_) * (wanted / scale);
  scale = wanted;
  draw();
}
function worstPlace() {
  const [x, y, width, height] = image.box || [0, 0, ...image.size];
  scale = Math.max(fitScale(), Math.min(canvas.width / width, canvas.height / height) * 0.9);
  center(x + width / 2, y + height / 2);
  draw();
}
function draw() {
  if (!image) return;
  const [width, height] = image.size, chosen = data.views[view];
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.setTransform(scale, 0, 0, scale, left, top_);
  const paintPhoto = () => {
    context.imageSmoothingEnabled = scale * width < 3 * image.photo.width || Boolean(image.crop);
    context.drawImage(image.photo, 0, 0, width, height);
    context.imageSmoothingEnabled = false;
    if (image.crop) context.drawImage(image.crop, ...image.box);
  };
  paintPhoto();
  const wipe = (width * element("wipe").value) / 100;
  context.save();
  context.beginPath();
  context.rect(wipe, 0, width - wipe, height);
  context.clip();
  if (chosen.dark) { context.fillStyle = "rgb(0 0 0 / .4)"; context.fillRect(0, 0, width, height); }
  context.imageSmoothingEnabled = scale < 1;
  // Below its own size a thin error would fade away: paint it as often as it is reduced.
  const times = chosen.fills.some((fill) => fill.opacity < 1) ? 1 : Math.min(6, Math.max(1, Math.round(1 / scale)));
  for (const layer of layers) for (let time = 0; time < times; time++) context.drawImage(layer, 0, 0, width, height);
  context.restore();
  context.lineWidth = 1.5 / scale;
  if (wipe > 0 && wipe < width) { context.strokeStyle = "#fff"; context.beginPath(); context.moveTo(wipe, 0); context.lineTo(wipe, height); context.stroke(); }
  if (image.box && scale < 4) { context.strokeStyle = "#fff"; context.strokeRect(...image.box); }
  stage.dataset.scale = scale.toFixed(3);
}
function step(by) {
  const position = shown.indexOf(current), next = shown[position + by];
  if (next === undefined) return;
  while (rendered <= position + by) renderMore();
  open(next, false);
}
data.views.forEach((one, number) => {
  const button = make("button", { type: "button", textContent: one.name, onclick: () => choose(number) });
  button.setAttribute("aria-keyshortcuts", number + 1);
  element("views").append(button);
});
element("previous").onclick = () => step(-1);
element("next").onclick = () => step(1);
element("close").onclick = () => viewer.close();
element("in").onclick = () => zoom(1.6);
element("out").onclick = () => zoom(1 / 1.6);
element("fit").onclick = () => { fit(); draw(); };
element("pixels").onclick = worstPlace;
element("wipe").addEventListener("input", draw);
viewer.addEventListener("close", () => {
  history.replaceState(null, "", location.pathname + location.search);
  const card = cards.get(current);
  current = -1;
  (card?.isConnected ? card.querySelector(".open") : before)?.focus();
});
viewer.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const slides = event.target === element("wipe"), number = Number(event.key);
  if (event.key === "ArrowLeft" && !slides) step(-1);
  else if (event.key === "ArrowRight" && !slides) step(1);
  else if (number >= 1 && number <= data.views.length) choose(number - 1);
  else if (event.key === "z") worstPlace();
  else if (event.key === "0") { fit(); draw(); }
  else if (event.key === "+" || event.key === "=") zoom(1.6);
  else if (event.key === "-") zoom(1 / 1.6);
  else return;
  event.preventDefault();
});
const pointers = new Map(), ratio = () => canvas.width / stage.clientWidth;
const spread = () => { const [a, b] = [...pointers.values()]; return Math.hypot(a.x - b.x, a.y - b.y); };
stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY }); });
stage.addEventListener("pointermove", (event) => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const distance = pointers.size === 2 ? spread() : 0;
  pointers.set(event.pointerId, { x: event.offsetX, y: event.offsetY });
  if (pointers.size === 2) {
    const [a, b] = [...pointers.values()];
    return zoom(spread() / distance, ((a.x + b.x) / 2) * ratio(), ((a.y + b.y) / 2) * ratio());
  }
  left += (event.offsetX - last.x) * ratio();
  top_ += (event.offsetY - last.y) * ratio();
  draw();
});
for (const kind of ["pointerup", "pointercancel"]) stage.addEventListener(kind, (event) => pointers.delete(event.pointerId));
stage.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(-event.deltaY / 300), event.offsetX * ratio(), event.offsetY * ratio()); }, { passive: false });
stage.addEventListener("dblclick", (event) => zoom(3, event.offsetX * ratio(), event.offsetY * ratio()));
window.addEventListener("resize", () => { if (viewer.open) { resize(); fit(); draw(); } });
function followHash() {
  const number = byId.get(decodeURIComponent(location.hash.replace(/^#image=/, "")));
  if (location.hash.startsWith("#image=") && number !== undefined && number !== current) open(number);
}
window.addEventListener("hashchange", followHash);
update();
followHash();
