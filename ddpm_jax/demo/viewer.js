// The viewer: 16-bit images in canvases; window, level, invert and zoom cost no sampling.
// An image is an RGB PNG whose red is the high byte and green the low one (viewer.py).

const FULL = { width: 65536, level: 32768, zoom: 1, x: 0, y: 0 };
const view = { ...FULL, invert: false, smooth: true, large: null };
let figures = [];
let latest = 0;

const find = (selector) => element.querySelector(selector);
const viewer = find(".viewer");
const grid = find(".grid");
const inputs = { width: find("input.width"), level: find("input.level") };

// ---- Pixels ----

async function decode(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint16Array(data.length / 4);
  for (let i = 0; i < pixels.length; i++) pixels[i] = (data[4 * i] << 8) | data[4 * i + 1];
  return { pixels, width: canvas.width, height: canvas.height };
}

function lookup() {
  const table = new Uint8ClampedArray(65536);
  const low = view.level - view.width / 2;
  for (let i = 0; i < 65536; i++) {
    const grey = ((i - low) / view.width) * 255;
    table[i] = view.invert ? 255 - Math.min(255, Math.max(0, grey)) : grey;
  }
  return table;
}

function paint(figure, table) {
  if (!figure.data) return;
  const { pixels, width, height } = figure.data;
  const canvas = figure.canvas;
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const shown = context.createImageData(width, height);
  for (let i = 0; i < pixels.length; i++) {
    const grey = table[pixels[i]];
    shown.data[4 * i] = shown.data[4 * i + 1] = shown.data[4 * i + 2] = grey;
    shown.data[4 * i + 3] = 255;
  }
  context.putImageData(shown, 0, 0);
}

let pending = false;
function refresh() {
  inputs.width.value = view.width;
  inputs.level.value = view.level;
  inputs.width.nextElementSibling.value = Math.round(view.width);
  inputs.level.nextElementSibling.value = Math.round(view.level);
  find('[data-do="invert"]').setAttribute("aria-pressed", view.invert);
  find('[data-do="smooth"]').setAttribute("aria-pressed", view.smooth);
  grid.classList.toggle("pixels", !view.smooth);
  grid.style.setProperty("--zoom", view.zoom);
  grid.style.setProperty("--x", view.x);
  grid.style.setProperty("--y", view.y);
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    const table = lookup();
    figures.forEach((figure) => paint(figure, table));
  });
}

// ---- Figures ----

function make(told, index) {
  const node = document.createElement("figure");
  node.tabIndex = 0;
  node.innerHTML =
    '<div class="frame"><canvas></canvas><span class="mark">SYNTHETIC</span><b class="label"></b>' +
    '<span class="save"><button type="button" data-format="png">PNG</button>' +
    '<button type="button" data-format="dicom">DICOM</button></span></div>' +
    '<figcaption class="said"></figcaption>';
  node.dataset.index = index;
  grid.append(node);
  return { node, canvas: node.querySelector("canvas"), data: null };
}

async function update(figure, told) {
  const said = figure.node.querySelector(".said");
  const parts = [{ text: `seed ${told.seed}`, seed: true }, ...told.caption].map((part) => {
    const node = document.createElement(part.differs ? "mark" : "span");
    node.textContent = part.text;
    node.classList.toggle("seed", Boolean(part.seed));
    return node;
  });
  said.replaceChildren(...parts);
  said.title = parts.map((part) => part.textContent).join(", ");
  figure.canvas.setAttribute("role", "img");
  figure.canvas.setAttribute("aria-label", "Synthetic radiograph: " + said.title);
  figure.node.querySelector(".label").textContent = told.label;
  figure.node.classList.toggle("ready", told.ready);
  figure.canvas.source = told.image;
  figure.data = await decode(told.image);
}

function show(told) {
  if (!told || told.state === "empty") return;
  const mine = ++latest;
  viewer.dataset.state = told.state;
  find(".bar i").style.width = `${100 * told.progress}%`;
  if (figures.length !== told.figures.length) {
    grid.replaceChildren();
    figures = told.figures.map(make);
    view.large = null;
  }
  grid.dataset.across = told.across;
  arrange();
  Promise.all(told.figures.map((each, i) => update(figures[i], each))).then(() => {
    if (mine === latest) refresh();
  });
}

// Columns that make the images largest; pairs of a comparison stay beside each other.
function arrange() {
  const shown = view.large === null ? figures.length : pair();
  const across = Number(grid.dataset.across || 1);
  const width = grid.clientWidth, height = grid.clientHeight;
  const narrow = width < 560;  // a phone: two in a row at most, and the page scrolls
  const most = Math.max(across, Math.min(shown, narrow ? 2 : shown));
  let best = { side: 0, columns: across };
  for (let columns = across; columns <= most; columns += across) {
    const rows = Math.ceil(shown / columns);
    const wide = width / columns - 12;
    const side = narrow ? wide : Math.min(wide, height / rows - 56);
    if (side > best.side || narrow) best = { side, columns };
  }
  grid.style.setProperty("--columns", best.columns);
  grid.style.setProperty("--side", `${Math.max(120, Math.floor(best.side))}px`);
  figures.forEach((figure, i) => {
    const apart = Math.floor(i / across) !== Math.floor(view.large / across);
    figure.node.hidden = view.large !== null && apart;
  });
}
const pair = () => Number(grid.dataset.across || 1);

function enlarge(index) {
  view.large = view.large === null && figures.length > pair() ? index : null;
  Object.assign(view, { zoom: 1, x: 0, y: 0 });
  arrange();
  refresh();
}

function step(by) {
  const at = figures.findIndex((figure) => figure.node === document.activeElement);
  const across = pair();
  if (view.large !== null) {
    view.large = (view.large + by * across + figures.length) % figures.length;
    arrange();
    figures[view.large].node.focus();
  } else if (figures.length) {
    figures[(at + by + figures.length) % figures.length].node.focus();
  }
}

// ---- Tools ----

function auto() {
  const values = figures.flatMap((figure) => (figure.data ? Array.from(figure.data.pixels) : []));
  if (!values.length) return;
  values.sort((a, b) => a - b);
  const low = values[Math.floor(0.005 * values.length)], high = values[Math.floor(0.995 * (values.length - 1))];
  view.width = Math.max(256, high - low);
  view.level = (high + low) / 2;
}

const tools = {
  auto,
  invert: () => (view.invert = !view.invert),
  smooth: () => (view.smooth = !view.smooth),
  reset: () => Object.assign(view, FULL, { invert: false, smooth: true }),
};

function use(name) {
  tools[name]();
  refresh();
}

function zoom(by) {
  view.zoom = Math.min(8, Math.max(1, view.zoom * by));
  if (view.zoom === 1) Object.assign(view, { x: 0, y: 0 });
  move(0, 0);
}

function move(x, y) {
  const most = 50 * (view.zoom - 1);
  view.x = Math.min(most, Math.max(-most, view.x + x));
  view.y = Math.min(most, Math.max(-most, view.y + y));
  refresh();
}

for (const name of ["width", "level"])
  inputs[name].addEventListener("input", () => {
    view[name] = Number(inputs[name].value);
    refresh();
  });

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.do) use(button.dataset.do);
  if (button.dataset.all) trigger("select", { index: null, format: button.dataset.all });
  if (button.dataset.format)
    trigger("select", {
      index: Number(button.closest("figure").dataset.index),
      format: button.dataset.format,
    });
});

// ---- Mouse, touch and keyboard ----

let drag = null;
grid.addEventListener("pointerdown", (event) => {
  const frame = event.target.closest(".frame");
  if (!frame || event.target.closest("button") || event.button > 1 || event.pointerType === "touch") return;
  drag = { x: event.clientX, y: event.clientY, side: frame.clientWidth };
  frame.setPointerCapture(event.pointerId);
});
grid.addEventListener("pointermove", (event) => {
  if (!drag) return;
  const x = event.clientX - drag.x, y = event.clientY - drag.y;
  if (event.shiftKey || event.buttons === 4) {
    move((100 * x) / drag.side, (100 * y) / drag.side);
  } else {
    view.width = Math.min(65536, Math.max(256, view.width + 128 * x));
    view.level = Math.min(65536, Math.max(0, view.level + 128 * y));
    refresh();
  }
  Object.assign(drag, { x: event.clientX, y: event.clientY });
});
for (const name of ["pointerup", "pointercancel"])
  grid.addEventListener(name, () => (drag = null));
grid.addEventListener("dblclick", (event) => {
  const figure = event.target.closest("figure");
  if (figure && event.target.closest(".frame")) enlarge(Number(figure.dataset.index));
});
grid.addEventListener(
  "wheel",
  (event) => {
    if (!event.target.closest(".frame")) return;
    event.preventDefault();
    zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
  },
  { passive: false },
);

const press = (id) => document.querySelector(`button#${id}, #${id} button`)?.click();
const keys = {
  i: () => use("invert"),
  a: () => use("auto"),
  s: () => use("smooth"),
  r: () => use("reset"),
  n: () => press("next"),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(1 / 1.25),
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  Escape: () => view.large !== null && enlarge(null),
};

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    document.activeElement?.blur();
    return press("sample");
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const input = event.target.closest?.("input, textarea, select, [role=listbox]");
  const moved = ["range", "radio", "checkbox"].includes(input?.type) && /^[a-z]$/.test(key);
  if (input && !moved) return;
  const figure = event.target.closest?.("figure");
  if (event.key === "Enter" && figure) return enlarge(Number(figure.dataset.index));
  keys[key]?.();
}

document.addEventListener("keydown", onKey);
new ResizeObserver(arrange).observe(grid);
watch("value", () => show(props.value));
refresh();
