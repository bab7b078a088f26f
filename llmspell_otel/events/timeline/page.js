// Going about.

function see(place) {
  const at = shown.indexOf(place);
  if (at < 0) return;
  const top = list.getBoundingClientRect().top + at * ROW;
  const head = document.querySelector(".head").getBoundingClientRect().height;
  const over = getComputedStyle(panel).position === "fixed" && !panel.hidden;
  const bottom = over ? panel.getBoundingClientRect().top : innerHeight;
  if (top < head + ROW) scrollBy(0, top - head - 3 * ROW);
  else if (top > bottom - 2 * ROW) scrollBy(0, top - bottom + 4 * ROW);
}

function select(place, opened = !panel.hidden) {
  selected = place;
  if (opened) open();
  see(place);
  draw(false);
  mark();
  try { history.replaceState(null, "", `#${encodeURIComponent(calls[place].id)}`); } catch { /* a frame */ }
}

function reveal(place) {
  if (matches && !matches.has(place)) clear();
  if (!inView(calls[place])) zoom(0, run.duration);
  for (const each of above(place)) folded.delete(each);
  selected = place;
  arrange();
  select(place, true);
}

function named(hash) {
  let id = hash.slice(1);
  try { id = decodeURIComponent(id); } catch { /* not one of ours */ }
  const place = id ? calls.findIndex((call) => call.id === id) : -1;
  if (place >= 0) reveal(place);
}

function fold(place, shut) {
  if (!calls[place]?.many) return;
  folded[shut ? "add" : "delete"](place);
  arrange();
}

function foldAll() {
  if (folded.size) folded.clear();
  else for (const call of calls) if (call.many && call.depth > 0) folded.add(call.place);
  if (!folded.size && !calls.some((call) => call.depth)) return;
  const hidden = [...above(selected)].findLast((each) => folded.has(each));
  if (hidden !== undefined) selected = hidden;
  arrange();
}

function filter() {
  matches = wanted();
  arrange();
}

function clear() {
  search.value = "";
  filters.clear();
  for (const each of $("filters").children) each.setAttribute("aria-pressed", "false");
  filter();
}

function step(rows) {
  const at = shown.indexOf(selected);
  select(shown[Math.max(0, Math.min(shown.length - 1, at < 0 ? 0 : at + rows))]);
}

function inward() {
  if (folded.has(selected) && !matches) fold(selected, false);
  else if (calls[selected]?.many) step(1);
}

function outward() {
  const call = calls[selected];
  if (call?.many && !folded.has(selected) && !matches) fold(selected, true);
  else if (call?.parent !== undefined) select(call.parent);
}

const page = () => Math.max(1, Math.floor(innerHeight / ROW) - 8);
const KEYS = {
  ArrowDown: () => step(1), j: () => step(1), ArrowUp: () => step(-1), k: () => step(-1),
  PageDown: () => step(page()), PageUp: () => step(-page()),
  Home: () => step(-calls.length), End: () => step(calls.length),
  ArrowRight: inward, ArrowLeft: outward,
  Enter: () => selected >= 0 && (panel.hidden ? select(selected, true) : close()),
  z: () => selected >= 0 && zoom(calls[selected].start, calls[selected].start + calls[selected].long),
  "/": () => { search.focus(); search.select(); },
  Escape: () => !panel.hidden ? close() : matches ? clear() : zoom(0, run.duration),
};

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target === search) {
    if (event.key === "Escape") clear();
    else if (event.key !== "Enter" && event.key !== "ArrowDown") return;
    event.preventDefault();
    list.focus();
    if (event.key !== "Escape" && shown.length)
      select(matches ? shown.find((each) => matches.has(each)) ?? shown[0] : shown[0]);
    return;
  }
  const moving = event.key !== "/" && event.key !== "Escape";
  if (moving && event.target !== list && event.target !== document.body) return;
  if (!(event.key in KEYS) || !shown.length && moving) return;
  event.preventDefault();
  KEYS[event.key]();
}

function clicked(event) {
  const place = Number(event.target.closest(".row")?.dataset.place ?? -1);
  if (place < 0) return;
  if (event.target.classList.contains("twist") && calls[place].many && !matches) {
    fold(place, !folded.has(place));
  } else if (place === selected && !panel.hidden) {
    close();
  } else {
    select(place, true);
  }
}

function offerFilters() {
  const kinds = new Map();
  for (const { kind } of calls) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const there = Object.keys(PROPERTIES).filter((each) => calls.some(PROPERTIES[each]));
  for (const each of [...kinds.keys(), ...there]) {
    const made = el("button", "", each);
    made.setAttribute("aria-pressed", "false");
    made.onclick = () => {
      filters[filters.has(each) ? "delete" : "add"](each);
      made.setAttribute("aria-pressed", filters.has(each));
      filter();
    };
    $("filters").append(made);
  }
}

function offerEvents() {
  const { events } = run, others = $("others");
  others.hidden = !events.length;
  others.firstElementChild.textContent = `${events.length.toLocaleString("en")} events of no call`;
  others.ontoggle = () => {
    if (!others.open || others.lastElementChild.childElementCount) return;
    others.lastElementChild.append(...events.slice(0, MOST).map(event));
    if (events.length > MOST) others.lastElementChild.append(`… and ${events.length - MOST} more`);
  };
}

async function begin() {
  try {
    run = await unpack();
  } catch (error) {
    list.textContent = `This browser cannot unpack the calls: ${error}`;
    return;
  }
  learn();
  offerFilters();
  offerEvents();
  arrange();
  ticks();
  list.onclick = clicked;
  list.ondblclick = () => KEYS.z();
  axis.onpointerdown = drag;
  $("whole").onclick = () => zoom(0, run.duration);
  $("fold").onclick = foldAll;
  search.oninput = filter;
  onkeydown = pressed;
  onscroll = soon;
  onresize = () => { ticks(); soon(); };
  onbeforeprint = () => { printing = true; arrange(); };
  onafterprint = () => { printing = false; arrange(); };
  onhashchange = () => named(location.hash);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (link) { event.preventDefault(); named(link.hash); }
  });
  named(location.hash);
  document.body.classList.add("ready");
}

begin();
