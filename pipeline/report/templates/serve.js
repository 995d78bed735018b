"use strict";
// Photos are sent one after the other. Masks are drawn here, from the number of thresholds that each pixel reaches.
const settings = JSON.parse(document.getElementById("settings").textContent);
const element = id => document.getElementById(id);
const make = (tag, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};
const FILL = 115, LINE = 255;  // opacity of the tint and of the outline, of 255
const photos = [];             // {name, file, state: waiting | working | done | refused, info, error, batch, row}
let current = null, levels = null, batch = 0, shownBatch = 0, working = false, scheduled = false;

// Add photos

function addFiles(files, folders = []) {
  batch += 1;
  for (const name of folders) addPhoto({name, error: "is a folder; drop the photos in it"});
  for (const file of files) {
    const megabytes = (file.size / 1e6).toFixed(0);
    const limit = settings.maxBytes / 1e6;
    const error = file.size > settings.maxBytes ? `has ${megabytes} MB; the limit is ${limit} MB`
      : file.size === 0 ? "is empty" : "";
    addPhoto({name: file.name || "pasted.png", file, error});
  }
  work();
}

function addPhoto(photo) {
  Object.assign(photo, {state: photo.error ? "refused" : "waiting", batch});
  photo.row = element("photos").appendChild(make("li"));
  photos.push(photo);
  drawRow(photo);
  element("list").hidden = element("keys").hidden = false;
}

async function work() {
  if (working) return;
  working = true;
  for (let photo; (photo = photos.find(each => each.state === "waiting"));) {
    photo.state = "working";
    drawRow(photo);
    report();
    try {
      const answer = await send(photo);
      if (answer.error) Object.assign(photo, {state: "refused", error: answer.error});
      else Object.assign(photo, {state: "done", info: answer});
    } catch (error) {
      Object.assign(photo, {state: "refused", error: "was not predicted: the server does not answer; is `make serve` running?"});
    }
    photo.file = null;
    if (!photos.includes(photo)) { forget(photo); continue; }
    drawRow(photo);
    if (photo.state === "done" && (!current || photo.batch > shownBatch)) await select(photo);
  }
  working = false;
  report();
}

async function send(photo) {
  for (;;) {
    const answer = await fetch(`photos?name=${encodeURIComponent(photo.name)}`,
      {method: "POST", headers: {"Content-Type": "application/octet-stream"}, body: photo.file});
    if (answer.status !== 503) return answer.json();
    await new Promise(resolve => setTimeout(resolve, 1000));
  }
}

function forget(photo) {
  if (photo.info) fetch(`photos/${photo.info.key}`, {method: "DELETE"}).catch(() => {});
}

function report() {
  const left = photos.filter(photo => photo.state === "waiting" || photo.state === "working");
  const refused = photos.filter(photo => photo.state === "refused");
  const batchOf = photos.filter(photo => photo.batch === batch).length;
  element("status").className = left.length ? "" : refused.length ? "problem" : "";
  element("status").textContent = left.length
    ? `Predicting ${left[0].name}${left.length > 1 ? `; ${left.length - 1} more to go` : ""} …`
    : refused.length === 1 ? `${refused[0].name} ${refused[0].error}.`
    : refused.length ? `${refused.length} files have no mask; the list says why.`
    : batchOf > 1 ? `${batchOf} photos are done.` : "";
}

// The list of photos

function drawRow(photo) {
  const words = {waiting: "waits", working: "is predicted …", refused: photo.error, done: ""}[photo.state];
  const label = make("span", {className: "name"}, photo.name);
  const remove = make("button", {type: "button", className: "remove", textContent: "×", ariaLabel: `Remove ${photo.name}`});
  remove.addEventListener("click", () => removePhotos([photo]));
  if (photo.state === "done") {
    const image = make("img", {src: `photos/${photo.info.key}/thumbnail.jpg`, alt: ""});
    const choose = make("button", {type: "button", className: "choose"}, image, label);
    choose.addEventListener("click", () => select(photo));
    if (photo === current) choose.setAttribute("aria-current", "true");
    photo.row.replaceChildren(choose, remove);
  } else {
    const text = make("span", {className: photo.state === "refused" ? "problem" : "muted"}, words);
    photo.row.replaceChildren(make("div", {className: "choose"}, label, text), remove);
  }
}

function removePhotos(removed) {
  const stays = photo => photo.state === "done" && !removed.includes(photo), place = photos.indexOf(current);
  const next = photos.slice(place + 1).find(stays) || photos.slice(0, Math.max(place, 0)).findLast(stays);
  for (const photo of removed) {
    photos.splice(photos.indexOf(photo), 1);
    photo.row.remove();
    forget(photo);
  }
  if (removed.includes(current)) select(next || null);
  element("list").hidden = element("keys").hidden = photos.length === 0;
  (element("photos").querySelector("button") || element("files")).focus();
  report();
}

async function select(photo) {
  const before = current;
  current = photo;
  if (before && photos.includes(before)) drawRow(before);
  element("viewer").hidden = !photo;
  if (!photo) return;
  shownBatch = Math.max(shownBatch, photo.batch);
  const focused = document.activeElement === photo.row.querySelector(".choose");
  drawRow(photo);
  if (focused) photo.row.querySelector(".choose").focus();
  const answer = await fetch(`photos/${photo.info.key}/levels`).catch(() => null);
  if (!answer || !answer.ok) {
    photo.state = "refused";
    photo.error = answer ? "is not in memory any more; drop it again" : "cannot be shown: the server does not answer";
    drawRow(photo);
    report();
    return;
  }
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (photo !== current) return;  // another one was chosen meanwhile
  levels = bytes;
  const [width, height] = photo.info.preview_size;
  Object.assign(element("mask"), {width, height});
  Object.assign(element("photo"), {src: `photos/${photo.info.key}/preview.jpg`, width, height, alt: photo.name});
  zoom();
  draw();
}

// The mask

function draw() {
  scheduled = false;
  const step = Number(element("threshold").value), threshold = settings.thresholds[step];
  element("value").textContent = threshold.toFixed(2);
  element("threshold").setAttribute("aria-valuetext", threshold.toFixed(2));
  element("reset").textContent = `Reset to ${settings.thresholds[settings.default].toFixed(2)}`;
  if (!current || !levels) return;
  const view = document.querySelector("[name=view]:checked").value, info = current.info;
  const [width, height] = info.preview_size, context = element("mask").getContext("2d");
  const image = context.createImageData(width, height), pixels = new Uint32Array(image.data.buffer);
  if (view === "mask") pixels.fill(0xff000000);
  settings.classes.forEach((one, number) => {
    if (view === "photo" || element("classes").querySelector(`[value="${number}"]:not(:checked)`)) return;
    const [red, green, blue] = view === "mask" && settings.classes.length === 1 ? [255, 255, 255] : one.color;
    const color = red | green << 8 | blue << 16;
    const fill = (view === "mask" ? LINE : FILL) << 24 | color, line = LINE << 24 | color;
    paint(pixels, levels.subarray(number * width * height), width, height, info.needed[number][step], fill, line);
  });
  context.putImageData(image, 0, 0);
  describe(step, threshold);
}

function paint(pixels, counts, width, height, needed, fill, line) {
  const reach = Math.max(1, Math.round(width / 960)), down = reach * width;
  for (let y = 0, index = 0; y < height; y++) {
    for (let x = 0; x < width; x++, index++) {
      if (counts[index] < needed) continue;
      const edge = (x >= reach && counts[index - reach] < needed) || (x + reach < width && counts[index + reach] < needed)
        || (y >= reach && counts[index - down] < needed) || (y + reach < height && counts[index + down] < needed);
      pixels[index] = edge ? line : fill;
    }
  }
}

function describe(step, threshold) {
  const info = current.info, [width, height] = info.size, key = `photos/${info.key}`, query = `?threshold=${threshold}`;
  const share = number => `${(100 * info.areas[number][step] / (width * height)).toFixed(1)} %`;
  const several = settings.classes.length > 1;
  const covered = several ? "" : ` · mask covers ${share(0)}`;
  const smaller = info.preview_size[0] < width ? " · shown smaller; the files have all pixels" : "";
  element("caption").textContent =
    `${current.name} · ${width} × ${height} pixels${covered} · predicted in ${info.seconds.toFixed(1)} s${smaller}`;
  const names = settings.classes.map(one => one.name);
  const raised = names.filter((_, number) => info.needed[number][step] <= step);
  const empty = names.filter((_, number) => info.areas[number][step] === 0);
  const whose = list => several ? ` of ${list.join(", ")}` : "";
  element("note").textContent = raised.length
    ? `No pixel${whose(raised)} reaches ${threshold.toFixed(2)}. Masks of this competition are never empty: the most probable pixels are shown.`
    : empty.length ? `No pixel${whose(empty)} reaches ${threshold.toFixed(2)}.` : "";
  const link = (text, href) => make("a", {className: "button", href: key + href + query, download: ""}, text);
  if (several) settings.classes.forEach((_, number) => {
    element(`share${number}`).textContent = share(number);
    element(`png${number}`).replaceChildren(link("PNG", `/mask/${number}.png`));
    element(`png${number}`).firstChild.ariaLabel = `Mask of ${names[number]}, PNG`;
  });
  element("downloads").replaceChildren(
    ...several ? [] : [link("Download mask (PNG)", "/mask/0.png")],
    ...settings.hasRle ? [link("Download RLE (CSV)", "/rle.csv")] : []);
}

function zoom() {
  if (!current) return;
  const factor = Number(document.querySelector("[name=zoom]:checked").value), frame = element("frame"), stage = element("stage");
  const center = [(frame.scrollLeft + frame.clientWidth / 2) / frame.scrollWidth,
    (frame.scrollTop + frame.clientHeight / 2) / frame.scrollHeight];
  frame.classList.toggle("zoomed", factor > 0);
  stage.style.width = factor ? `${current.info.preview_size[0] * factor}px` : "";
  if (factor) frame.scrollTo(center[0] * frame.scrollWidth - frame.clientWidth / 2,
    center[1] * frame.scrollHeight - frame.clientHeight / 2);
}

// Controls and keys

function schedule() {
  if (!scheduled) requestAnimationFrame(draw);
  scheduled = true;
}

function setThreshold(step) {
  element("threshold").value = step;
  schedule();
}

function step(by) {
  const done = photos.filter(photo => photo.state === "done"), next = done[done.indexOf(current) + by];
  if (next) select(next).then(() => next.row.scrollIntoView({block: "nearest"}));
}

const KEYS = {
  ArrowLeft: () => step(-1),
  ArrowRight: () => step(1),
  "+": () => setThreshold(Number(element("threshold").value) + 1),
  "-": () => setThreshold(Number(element("threshold").value) - 1),
  m: () => {
    const views = [...document.querySelectorAll("[name=view]")];
    views[(views.findIndex(view => view.checked) + 1) % views.length].checked = true;
    draw();
  },
};

document.addEventListener("keydown", event => {
  const scrolls = event.target.id === "frame" && event.target.classList.contains("zoomed") && event.key.startsWith("Arrow");
  if (event.target.matches("input") || scrolls || event.ctrlKey || event.metaKey || event.altKey || !current) return;
  const action = KEYS[event.key] || KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});
element("threshold").addEventListener("input", schedule);
element("reset").addEventListener("click", () => setThreshold(settings.default));
element("clear").addEventListener("click", () => removePhotos([...photos]));
for (const radio of document.querySelectorAll("[name=view]")) radio.addEventListener("change", draw);
for (const radio of document.querySelectorAll("[name=zoom]")) radio.addEventListener("change", zoom);
element("files").addEventListener("change", event => {
  addFiles([...event.target.files]);
  event.target.value = "";  // so that the same file can be chosen again
});
document.addEventListener("paste", event => {
  if (event.clipboardData.files.length) addFiles([...event.clipboardData.files]);
});
document.addEventListener("dragover", event => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", event => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", event => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  const entries = [...event.dataTransfer.items].filter(item => item.kind === "file")
    .map(item => [item.webkitGetAsEntry && item.webkitGetAsEntry(), item.getAsFile()]);
  const isFolder = ([entry]) => entry && entry.isDirectory;
  addFiles(entries.filter(each => !isFolder(each)).map(([, file]) => file).filter(Boolean),
    entries.filter(isFolder).map(([entry]) => entry.name));
});
if (settings.classes.length > 1) settings.classes.forEach((one, number) => {
  const box = make("input", {type: "checkbox", value: number, checked: true});
  box.addEventListener("change", draw);
  const chip = make("span", {className: "chip"});
  chip.style.background = `rgb(${one.color})`;
  element("classes").append(make("li", {}, make("label", {}, box, chip, one.name),
    make("span", {id: `share${number}`}), make("span", {id: `png${number}`})));
});
setThreshold(settings.default);
