// Draws the calls that are in sight, and what is inside the one that is open. Everything that
// comes from the run is set as text: nothing here makes markup of it.
"use strict";

const ROW = 26; // pixels, as in the style
const BEYOND = 12; // rows drawn above and below what is in sight
const DEEPEST = 16; // levels that are indented
const MOST = 1000; // other events that are listed
const $ = (id) => document.getElementById(id);
const list = $("list"), panel = $("inside"), axis = $("axis"), search = $("search");

let run = { duration: 0, calls: [], events: [] };
let calls = []; // every call, callers before what they called
let shown = []; // the places of the rows, top to bottom
let captured = false; // whether any call tells what went in and came out
let matches = null; // the places that were searched for; null shows all
let selected = -1;
let view = [0, 1]; // the part of the run on the axis, microseconds
let printing = false; // on paper all rows are in sight
const folded = new Set(), filters = new Set();

function el(tag, style, ...inner) {
  const made = document.createElement(tag);
  if (style) made.className = style;
  made.append(...inner.filter((each) => each !== "" && each != null));
  return made;
}

async function unpack() {
  const bytes = Uint8Array.from(atob($("data").textContent), (each) => each.charCodeAt(0));
  const whole = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(whole).json();
}

function learn() {
  calls = run.calls;
  for (const [place, call] of calls.entries()) {
    const parent = calls[call.parent];
    call.place = place;
    call.depth = parent ? parent.depth + 1 : 0;
    call.start ??= 0;
    call.long ??= 0;
    call.many = 0; // calls below it
  }
  for (const call of [...calls].reverse())
    if (call.parent !== undefined) calls[call.parent].many += call.many + 1;
  captured = calls.some(({ inside }) => inside?.content);
  view = [0, run.duration || 1];
}

// Which rows there are.

function texts(value) {
  return Array.isArray(value) ? value.map(texts).join("\n")
    : value && typeof value === "object" ? Object.values(value).map(texts).join("\n")
    : String(value ?? "");
}

function text(call) {
  const { id, kind, name, outcome, acts, inside } = call;
  return call.text ??= texts([id, kind, name, outcome, acts, inside]).toLowerCase();
}

const PROPERTIES = {
  failed: (call) => ["error", "abandoned"].includes(call.outcome),
  hooks: (call) => Boolean(call.acts),
  "critical path": (call) => call.critical,
};

function wanted() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const kinds = [...filters].filter((each) => !(each in PROPERTIES));
  const others = [...filters].filter((each) => each in PROPERTIES);
  if (!words.length && !filters.size) return null;
  return new Set(calls.filter((call) =>
    (!kinds.length || kinds.includes(call.kind)) &&
    others.every((each) => PROPERTIES[each](call)) &&
    words.every((word) => text(call).includes(word))).map((call) => call.place));
}

function* above(place) {
  for (let at = calls[place]?.parent; at !== undefined; at = calls[at].parent) yield at;
}

const zoomed = () => view[0] > 0 || view[1] < run.duration;
const inView = ({ start, long }) => start <= view[1] && start + long >= view[0];

function arrange() {
  const kept = matches && new Set(matches), part = zoomed();
  if (kept) for (const place of matches) for (const each of above(place)) {
    if (kept.has(each) && !matches.has(each)) break; // and so are those above it
    kept.add(each);
  }
  shown = [];
  for (let place = 0; place < calls.length; place++) {
    if (kept && !kept.has(place)) continue;
    if (!part || inView(calls[place])) shown.push(place);
    if (!kept && folded.has(place)) place += calls[place].many;
  }
  const all = calls.length.toLocaleString("en");
  const some = matches ? [...matches].filter((each) => !part || inView(calls[each])) : shown;
  $("count").textContent = matches || part ? `${some.length.toLocaleString("en")} of ${all} calls` : "";
  $("fold").textContent = folded.size ? "Expand all" : "Collapse all";
  list.style.height = `${Math.max(1, shown.length) * ROW}px`;
  draw();
  mark();
}

// How a row looks.

const share = (time) => ((time - view[0]) / (view[1] - view[0])) * 100;

function bar(call) {
  const made = el("span", "bar");
  const from = share(call.start), to = share(call.start + call.long);
  made.style.left = `min(${Math.max(-1, from)}%, 100% - 3px)`;
  made.style.width = `${Math.max(0, Math.min(101, to) - Math.max(-1, from))}%`;
  made.hidden = to < 0 || from > 100;
  const track = el("span", "track", made);
  if (!call.acts) return track;
  const told = el("span", "acts", ...call.acts.map((act) => el("span", "hook", `⚑ ${act}`)));
  if (to < 55) told.style.left = `calc(${Math.max(0, to)}% + 6px)`;
  else if (from > 45) told.style.right = `calc(${100 - Math.min(100, from)}% + 6px)`;
  else told.style.right = "6px";
  track.append(told);
  return track;
}

function badges(call) {
  const bad = PROPERTIES.failed(call) ? "badge bad" : "badge";
  return [
    call.outcome ? el("span", bad, call.outcome) : "",
    call.attempts ? el("span", "badge", `${call.attempts} attempts`) : "",
    call.branch !== undefined ? el("span", "badge", "branch") : "",
  ];
}

function row(place, top) {
  const call = calls[place];
  const shut = folded.has(place) && !matches;
  const twist = el("span", call.many ? "twist" : "twist none", shut ? "▸" : "▾");
  const named = el("b", "", call.name);
  named.title = call.name;
  const name = el("span", "name", twist, el("span", "kind", call.kind), named, ...badges(call));
  if (shut) name.append(el("span", "faint", `${call.many.toLocaleString("en")} more`));
  name.style.setProperty("--depth", Math.min(call.depth, DEEPEST));
  const made = el("div", `row ${call.style}`, name, bar(call), el("span", "n", call.time),
    el("span", "n tokens", call.tokens), el("span", "n cost", call.cost));
  made.classList.toggle("critical", Boolean(call.critical));
  made.classList.toggle("failed", PROPERTIES.failed(call));
  made.classList.toggle("context", Boolean(matches) && !matches.has(place));
  made.id = `call-${place}`;
  made.dataset.place = place;
  made.dataset.id = call.id;
  made.style.top = `${top}px`;
  made.setAttribute("role", "treeitem");
  made.setAttribute("aria-level", call.depth + 1);
  if (call.many) made.setAttribute("aria-expanded", !shut);
  return made;
}

let drawn = new Map(); // by place, the rows that are there

function draw(anew = true) {
  const top = list.getBoundingClientRect().top;
  const first = printing ? 0 : Math.max(0, Math.floor(-top / ROW) - BEYOND);
  const last = printing ? shown.length
    : Math.min(shown.length, Math.ceil((innerHeight - top) / ROW) + BEYOND);
  const before = anew ? new Map() : drawn;
  drawn = new Map();
  for (let at = first; at < last; at++)
    drawn.set(shown[at], before.get(shown[at]) ?? row(shown[at], at * ROW));
  // Rows that stay are left alone: a click may be on its way to one.
  if (anew) list.replaceChildren(...drawn.values());
  for (const [place, made] of before) if (!drawn.has(place)) made.remove();
  for (const [place, made] of drawn) if (!before.has(place) && !anew) list.append(made);
  if (anew && !shown.length) list.append(el("p", "faint", calls.length ? "No call is like that." : "No calls."));
}

function mark() {
  for (const [place, made] of drawn) {
    made.classList.toggle("selected", place === selected);
    made.setAttribute("aria-selected", place === selected);
  }
  if (drawn.has(selected)) list.setAttribute("aria-activedescendant", `call-${selected}`);
}

let waiting = false;
function soon() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(false); mark(); });
}

// The axis of time.

function seconds(microseconds) {
  const units = [["µs", 1], ["ms", 1e3], ["s", 1e6], ["min", 6e7], ["h", 3.6e9]];
  const fits = ([unit, size]) => Math.abs(microseconds) >= (unit === "min" ? 2 : 1) * size;
  const [unit, size] = units.findLast(fits) ?? ["s", 1];
  return `${+(microseconds / size).toPrecision(4)} ${unit}`;
}

function ticks() {
  const least = (view[1] - view[0]) / 6;
  const power = 10 ** Math.floor(Math.log10(least));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= least * 0.999);
  const marks = [];
  for (let at = Math.ceil(view[0] / step) * step; share(at) < 97; at += step) {
    const mark = el("span", "", seconds(at));
    mark.style.left = `${share(at)}%`;
    marks.push(mark);
  }
  axis.replaceChildren(...marks);
  const width = axis.clientWidth / 100;
  const calls_ = document.querySelector(".calls");
  calls_.style.setProperty("--tick", `${(share(view[0] + step)) * width}px`);
  calls_.style.setProperty("--shift", `${share(Math.ceil(view[0] / step) * step) * width}px`);
  $("whole").hidden = !zoomed();
}

function zoom(from, to) {
  const least = Math.max(1, run.duration / 1e6);
  const middle = (from + to) / 2, half = Math.max((to - from) / 2, least / 2);
  view = [Math.max(0, middle - half), Math.min(Math.max(run.duration, 1), middle + half)];
  const held = calls[selected] && inView(calls[selected]);
  ticks();
  arrange();
  if (held) see(selected);
}

function drag(begun) {
  const box = axis.getBoundingClientRect();
  const time = (event) => view[0] +
    Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (view[1] - view[0]);
  const mark = el("i", "range"), from = time(begun);
  axis.append(mark);
  axis.setPointerCapture(begun.pointerId);
  axis.onpointermove = (event) => {
    const ends = [from, time(event)].sort((a, b) => a - b).map(share);
    mark.style.left = `${ends[0]}%`;
    mark.style.width = `${ends[1] - ends[0]}%`;
  };
  axis.onpointerup = axis.onpointercancel = (event) => {
    axis.onpointermove = axis.onpointerup = axis.onpointercancel = null;
    mark.remove();
    const ends = [from, time(event)].sort((a, b) => a - b);
    if (share(ends[1]) - share(ends[0]) > 0.5) zoom(...ends);
  };
}
