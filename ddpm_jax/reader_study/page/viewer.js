"use strict";

// ---- the image ----

function decode(data) {
  const bytes = new DataView(data), out = new Uint16Array(data.byteLength / 2);
  for (let i = 0; i < out.length; i++) out[i] = bytes.getUint16(2 * i, true);
  return out;
}

function fresh() {
  return { zoom: 1, x: 0, y: 0, low: 0, high: state.levels - 1, invert: false };
}

function paint() {
  const { width, height, levels } = state;
  picture.width = width;
  picture.height = height;
  const brush = picture.getContext("2d"), image = brush.createImageData(width, height);
  const span = Math.max(1, view.high - view.low), shade = new Uint8ClampedArray(levels);
  for (let i = 0; i < levels; i++) {
    const value = 255 * (i - view.low) / span;
    shade[i] = view.invert ? 255 - value : value;
  }
  const pixels = new Uint32Array(image.data.buffer);
  const words = Uint32Array.from(shade, (s) => 0xff000000 | (s * 0x010101));
  for (let i = 0; i < grey.length; i++) pixels[i] = words[grey[i]];
  brush.putImageData(image, 0, 0);
  draw();
}

function fit() {
  const gap = 16 * devicePixelRatio;
  return Math.min((canvas.width - gap) / state.width,
                  (canvas.height - gap) / state.height);
}

function draw() {
  const box = canvas.getBoundingClientRect();
  const w = Math.round(box.width * devicePixelRatio);
  const h = Math.round(box.height * devicePixelRatio);
  if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
  brush.fillStyle = "#000";
  brush.fillRect(0, 0, w, h);
  at("window").textContent = "";
  if (!grey) return;
  const scale = fit() * view.zoom;
  brush.imageSmoothingEnabled = true;
  brush.imageSmoothingQuality = "high";
  brush.drawImage(picture, w / 2 + view.x - scale * state.width / 2,
    h / 2 + view.y - scale * state.height / 2, scale * state.width,
    scale * state.height);
  const centre = 100 * (view.low + view.high) / 2 / (state.levels - 1);
  const width = 100 * (view.high - view.low) / (state.levels - 1);
  const changed = view.zoom !== 1 || Math.round(width) !== 100 ||
    Math.round(centre) !== 50;
  if (changed) {
    at("window").textContent = `${Math.round(100 * view.zoom)} % · ` +
      `centre ${Math.round(centre)} · width ${Math.round(width)}`;
  }
}

function zoom(factor, x, y) {
  if (!grey) return;
  const before = view.zoom;
  view.zoom = Math.min(16, Math.max(1, view.zoom * factor));
  const ratio = view.zoom / before;
  view.x = x - (x - view.x) * ratio;
  view.y = y - (y - view.y) * ratio;
  keep();
  draw();
}

function keep() {
  const scale = fit() * view.zoom;
  const x = Math.max(0, (scale * state.width - canvas.width) / 2 + canvas.width / 4);
  const y = Math.max(0, (scale * state.height - canvas.height) / 2 + canvas.height / 4);
  view.x = view.zoom === 1 ? 0 : Math.max(-x, Math.min(x, view.x));
  view.y = view.zoom === 1 ? 0 : Math.max(-y, Math.min(y, view.y));
}

function zoomAt(factor, x, y) {
  const box = canvas.getBoundingClientRect();
  zoom(factor, (x - box.left) * devicePixelRatio - canvas.width / 2,
    (y - box.top) * devicePixelRatio - canvas.height / 2);
}

canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const turned = Math.max(-200, Math.min(200, event.deltaY));
  zoomAt(Math.exp(-turned / 400), event.clientX, event.clientY);
}, { passive: false });

// A mouse moves the image, or its window with Shift or the right button. One finger
// changes the window, two zoom and move.

const fingers = new Map();
let drag = null;

function held() {
  const all = [...fingers.values()], [a, b] = all;
  return {
    x: all.reduce((sum, one) => sum + one.x, 0) / all.length,
    y: all.reduce((sum, one) => sum + one.y, 0) / all.length,
    apart: b ? Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) : 1,
  };
}

canvas.addEventListener("pointerdown", (event) => {
  if (!grey) return;
  canvas.setPointerCapture(event.pointerId);
  canvas.classList.add("moving");
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const one = event.pointerType === "touch" || event.button === 2 || event.shiftKey;
  drag = { ...held(), level: one && fingers.size === 1, from: { ...view } };
});
canvas.addEventListener("pointermove", (event) => {
  if (!drag || !grey || !fingers.has(event.pointerId)) return;
  fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  const now = held(), dx = now.x - drag.x, dy = now.y - drag.y;
  if (drag.level) return level(drag.from, dx, dy);
  Object.assign(view, { zoom: drag.from.zoom, x: drag.from.x, y: drag.from.y });
  zoomAt(now.apart / drag.apart, drag.x, drag.y);
  view.x += dx * devicePixelRatio;
  view.y += dy * devicePixelRatio;
  keep();
  draw();
});
for (const name of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(name, (event) => {
    fingers.delete(event.pointerId);
    drag = null;  // a finger that stays does nothing
    canvas.classList.remove("moving");
  });
}

function level(was, dx, dy) {
  const range = state.levels - 1;
  const width = Math.max(range / 50, Math.min(2 * range,
    (was.high - was.low) * Math.exp(dx / 300)));
  const centre = Math.max(0, Math.min(range,
    (was.high + was.low) / 2 + dy / 600 * range));
  view.low = centre - width / 2;
  view.high = centre + width / 2;
  requestAnimationFrame(() => grey && paint());
}

canvas.addEventListener("contextmenu", (event) => event.preventDefault());
canvas.addEventListener("dblclick", () => reset());
addEventListener("resize", () => state && draw());

function reset() {
  if (!grey) return;
  view = fresh();
  paint();
}

function invert() {
  if (!grey) return;
  view.invert = !view.invert;
  paint();
}
