"use strict";

const base = location.pathname.replace(/\/$/, "");
const at = (id) => document.getElementById(id);
const canvas = at("canvas"), brush = canvas.getContext("2d", { alpha: false });
const picture = document.createElement("canvas");

let state = null;       // what the server says of the image that is shown
let upcoming = null;    // the same of the next one, once this one is answered
let grey = null;        // Uint16Array of the image that is shown
let view = null;        // zoom, offset and window
let said = null;        // the answer that is being given
let sending = false, ended = false, paused = false, cover = null, clock = null;

// ---- talking to the server ----

const wait = (ms) => new Promise((done) => setTimeout(done, ms));

async function ask(path, options) {
  for (let pause = 500; ; pause = Math.min(2 * pause, 5000)) {
    try {
      const reply = await fetch(base + path, { cache: "no-store", ...options });
      if (reply.status < 500) { note(""); return reply; }
    } catch (error) { /* no connection: tried again below */ }
    note("No answer from the server. Trying again; nothing is lost.", true);
    await wait(pause);
  }
}

async function refresh() {
  const reply = await ask("/state");
  if (!reply.ok) return finish("This link is not known", "Ask who gave it to you.");
  state = await reply.json();
}

// What is going on, for who drives the page: cover, loading, reading, sending, told.
function phase(name) {
  document.body.dataset.phase = name;
  document.body.dataset.position = state ? state.position : "";
}

async function next() {
  state = upcoming || state;
  upcoming = null;
  ended = true;
  phase("loading");
  grey = null;
  draw();
  if (state.position >= state.total) {
    return finish("Thank you", `All ${state.total} answers are stored. ` +
      "You can close this page.");
  }
  begin();
  const position = state.position;
  const reply = await ask(`/image/${position}`);
  if (!reply.ok) { await refresh(); return next(); }  // another tab went on
  const data = await reply.arrayBuffer();
  if (position !== state.position) return;
  grey = decode(data);
  view = fresh();
  paint();
  ended = false;
  clock = stopwatch();
  refill();
  phase("reading");
}

async function send() {
  if (sending || ended || !grey || !complete()) return;
  sending = true;
  phase("sending");
  refill();
  const body = JSON.stringify({
    position: state.position, answer: said.answer, confidence: said.confidence,
    seconds: clock.end() / 1000,
  });
  const practised = state.position < state.practice;
  const headers = { "Content-Type": "application/json" };
  const reply = await ask("/answer", { method: "POST", headers, body });
  const result = await reply.json().catch(() => ({}));
  sending = false;
  if (!reply.ok) return finish("This was not accepted", result.error || "");
  upcoming = result;
  if (practised && "feedback" in result) return feedback(result.feedback);
  next();
}

// ---- time: only while the image is visible ----

function stopwatch() {
  let total = 0, since = null;
  const flip = () => {
    const now = performance.now();
    if (since !== null) total += now - since;
    since = document.hidden || paused ? null : now;
  };
  const end = () => {
    flip();
    document.removeEventListener("visibilitychange", flip);
    return total;
  };
  document.addEventListener("visibilitychange", flip);
  flip();
  return { flip, end };
}

function pause() {
  if (!open()) return;
  paused = true;
  clock.flip();
  show("Paused", ["The image is covered and no time is counted.",
    `${state.position} of ${state.total} answered, all stored.`], "Go on", () => {
    paused = false;
    clock.flip();
    phase("reading");
  });
}

// ---- the answer ----

const VERDICTS = [["agrees", "✓", "y"], ["differs", "✗", "n"], ["cannot tell", "?", "c"]];
const labels = () => state.protocol === "label_discrepancy";

function element(name, text, properties) {
  const made = Object.assign(document.createElement(name), properties);
  if (text) made.textContent = text;
  return made;
}

function begin() {
  said = { answer: labels() ? {} : null, confidence: null };
  const practice = state.position < state.practice;
  at("phase").textContent = practice ? "Practice, not counted" : "";
  at("phase").className = practice ? "practice" : "";
  const done = practice ? state.position : state.position - state.practice;
  const total = practice ? state.practice : state.total - state.practice;
  at("count").textContent = `${done + 1} of ${total}`;
  at("bar").firstElementChild.style.width = `${100 * done / total}%`;
  said.here = 0;
  at("panel").classList.toggle("tight", labels());
  at("question").replaceChildren(...(labels() ? fields() : choices()));
  refill();
}

function choices() {
  const row = element("div", "", { className: "choices" });
  for (const [value, word, key] of [["real", "Real", "R"], ["synthetic", "Synthetic", "S"]]) {
    const button = element("button", word, { type: "button", id: `choose-${value}` });
    button.append(element("kbd", key));
    button.onclick = () => choose(value);
    row.append(button);
  }
  return [element("h1", "Real or synthetic?"), row];
}

function fields() {
  const rows = state.claims.map((claim, index) => {
    const row = element("div", "", { className: "field" });
    const verdicts = element("div");
    for (const [value, sign] of VERDICTS) {
      const button = element("button", sign, {
        type: "button", title: value, className: value === "cannot tell" ? "unsure" : value,
      });
      button.setAttribute("aria-label", `${claim.title}: ${value}`);
      button.dataset.value = value;
      button.onclick = () => judge(index, value);
      verdicts.append(button);
    }
    row.append(element("span", claim.title), element("b", claim.value), verdicts);
    return row;
  });
  const keys = element("p", "", { className: "keys" });
  keys.append(element("kbd", "Y"), "agrees", element("kbd", "N"), "differs",
    element("kbd", "C"), "cannot tell", element("br"), element("kbd", "↑"),
    element("kbd", "↓"), "choose a line");
  return [element("h1", "Does the image show this?"), ...rows, keys];
}

function open() { return grey && !sending && !ended && !cover; }

function choose(value) {
  if (!open() || labels()) return;
  said.answer = value;
  refill();
}

function judge(index, value) {
  if (!open() || !labels()) return;
  said.answer[state.claims[index].name] = value;
  const left = state.claims.findIndex((c) => !(c.name in said.answer));
  const after = state.claims.findIndex((c, i) => i > index && !(c.name in said.answer));
  said.here = after >= 0 ? after : left >= 0 ? left : index;
  refill();
}

function sure(value) {
  if (!open()) return;
  said.confidence = value;
  refill();
}

function complete() {
  if (!said || said.confidence === null) return false;
  return labels() ? state.claims.every((c) => c.name in said.answer)
    : said.answer !== null;
}

function refill() {
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));
  if (labels()) {
    document.querySelectorAll(".field").forEach((row, i) => {
      row.classList.toggle("here", i === said.here);
      const verdict = state.claims[i] && said.answer[state.claims[i].name];
      row.querySelectorAll("button").forEach((b) => press(b, b.dataset.value === verdict));
    });
  } else {
    for (const value of ["real", "synthetic"]) {
      press(at(`choose-${value}`), said.answer === value);
    }
  }
  [...at("scale").children].forEach((b, i) => press(b, said.confidence === i + 1));
  at("next").disabled = !complete() || sending || ended || !grey;
}

function note(text, warn) {
  at("note").textContent = text;
  at("note").className = warn ? "warn" : "";
}

// ---- what covers the image ----

function show(title, lines, button, then) {
  const words = [element("h1", title), ...lines.map((line) => element("p", line))];
  cover = then || (() => {});
  if (button) {
    const made = element("button", button, { type: "button", id: "go" });
    made.append(element("kbd", "Enter"));
    made.onclick = go;
    words.push(made);
  }
  at("words").replaceChildren(...words);
  at("cover").hidden = false;
  phase("cover");
}

function go() {
  if (!cover) return;
  const then = cover;
  cover = null;
  at("cover").hidden = true;
  then();
}

function finish(title, line) {
  ended = true;
  grey = null;
  show(title, line ? [line] : [], "", () => show(title, line ? [line] : []));
}

function feedback(truth) {
  ended = true;
  refill();
  let words = `This one was ${truth}.`;
  if (labels()) {
    const wrong = state.claims.findIndex((claim) => claim.name === truth);
    const rows = document.querySelectorAll(".field");
    rows.forEach((row, i) => row.classList.toggle("here", i === wrong));
    words = wrong < 0 ? "All of this was right."
      : `Wrong on purpose: ${state.claims[wrong].title}.`;
  }
  note(words);
  at("note").className = "told";
  at("next").disabled = false;
  at("next").firstChild.textContent = "Go on ";
  at("next").onclick = onward;
  phase("told");
}

function onward() {
  at("next").firstChild.textContent = "Next ";
  at("next").onclick = send;
  note("");
  if (upcoming.position === state.practice && upcoming.position < state.total) {
    grey = null;
    draw();
    return show("Practice is over", ["From here on, answers count and nobody says what " +
      "was right."], "Begin", next);
  }
  next();
}

function welcome() {
  if (state.position >= state.total) return next();
  const left = state.total - state.position;
  const lines = state.position ? [`${state.position} of ${state.total} answered. ` +
    "You go on where you stopped."] : [
    labels() ? "You see one radiograph at a time, and what it is said to show. Say of " +
      "each line whether the image agrees, and how sure you are."
      : "You see one radiograph at a time. Say whether it is real or synthetic, and how " +
      "sure you are.",
    `There are ${left} images` + (state.practice ? `; the first ${state.practice} are ` +
      "practice and you are told what was right." : "."),
    "There is no way back to an image. Every answer is stored at once: pause, or close " +
      "this page, whenever you like, and the same link goes on."];
  show(state.position ? "Welcome back" : "Reading study", lines,
    state.position ? "Go on" : "Begin", next);
}

// ---- keys ----

addEventListener("keydown", (event) => {
  if (event.repeat || event.ctrlKey || event.metaKey || event.altKey || !state) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (key === "Enter") {
    event.preventDefault();
    if (cover) go();
    else at("next").disabled || at("next").onclick();
  } else if (cover) {
    return;
  } else if ("12345".includes(key)) {
    sure(Number(key));
  } else if (key === "0") {
    reset();
  } else if (key === "i") {
    invert();
  } else if (key === "p") {
    pause();
  } else if (key === "+" || key === "-") {
    zoom(key === "+" ? 1.25 : 0.8, 0, 0);
  } else if (labels()) {
    const verdict = VERDICTS.find(([, , k]) => k === key);
    if (verdict) judge(said.here, verdict[0]);
    if (open() && (key === "ArrowDown" || key === "ArrowUp")) {
      event.preventDefault();
      const move = key === "ArrowDown" ? 1 : -1;
      said.here = Math.max(0, Math.min(state.claims.length - 1, said.here + move));
      refill();
    }
  } else if (key === "r" || key === "s") {
    choose(key === "r" ? "real" : "synthetic");
  }
});

for (let i = 1; i <= 5; i++) {
  const button = element("button", String(i), { type: "button", id: `sure-${i}` });
  button.onclick = () => sure(i);
  at("scale").append(button);
}
at("next").onclick = send;
at("next").disabled = true;
at("reset").onclick = reset;
at("invert").onclick = invert;
at("pause").onclick = pause;
refresh().then(() => state && welcome());
