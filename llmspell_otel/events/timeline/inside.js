// What is inside a call.

function table(heads, rows, style) {
  const filled = rows[0].map((_, column) => rows.some((each) => each[column]));
  const kept = (row_) => row_.filter((_, column) => filled[column]);
  const cells = (tag) => (each) => el(tag, "", each);
  const made = el("table", style);
  if (heads) made.append(el("tr", "", ...kept(heads).map(cells("th"))));
  made.append(...rows.map((each) => el("tr", "", ...kept(each).map(cells("td")))));
  return made;
}

function part(title, ...inner) {
  return el("section", "", el("h3", "", title), ...inner);
}

function event([when, type, data]) {
  const head = el("summary", "", el("span", "faint", when), " ", type);
  return el("details", "event", head, el("pre", "", data));
}

function way(title, place) {
  const made = el("button", "way", title);
  made.onclick = () => reveal(place);
  return made;
}

const SECTIONS = {
  refusal: (told) => part("Refused", el("pre", "", told)),
  error: (told) => part("Error", el("pre", "bad", told)),
  content: (told) => el("div", "", ...told.map(([side, name, value]) => {
    const made = part(side === "input" ? "Input" : "Output", el("pre", side, value));
    made.firstChild.append(" ", el("small", "", name));
    return made;
  })),
  decisions: (told) =>
    part("What hooks answered", table(["hook", "point", "result", "reason", "noted"], told)),
  firings: (told) => part("Hooks that ran", table(["point", "hooks", "time"], told)),
  attributes: (told) => part("Attributes", table(null, told, "pairs")),
  events: (told) => part("Events", ...told.map(event)),
};

function figures(told) {
  return el("dl", "figures", ...told.map(([name, value, note]) => el("div", "",
    el("dt", "", name), el("dd", "", value, note ? " " : "", note ? el("small", "", note) : ""))));
}

function open() {
  const call = calls[selected], told = call.inside ?? {};
  const shut = el("button", "shut", "×");
  shut.onclick = close;
  shut.title = "Close (Esc)";
  const head = el("header", call.style, el("span", "kind", call.kind), el("b", "", call.name), shut);
  const callers = [...above(selected)].reverse();
  const trail = el("p", "trail", ...callers.flatMap((at) => [way(calls[at].name, at), " › "]), call.name);
  const made = [head, trail, figures(told.figures ?? [])];
  if (call.branch !== undefined)
    made.push(el("p", "trail", "A branch beside ", way(calls[call.branch].name, call.branch)));
  for (const [name, section] of Object.entries(SECTIONS)) if (told[name]) made.push(section(told[name]));
  if (!captured && ["model", "tool"].includes(call.kind))
    made.push(el("p", "faint", "Input and output were not captured: " +
      "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY has them kept."));
  made.push(el("p", "run", call.id));
  panel.replaceChildren(...made);
  panel.scrollTop = 0;
  const was = panel.hidden;
  panel.hidden = false;
  document.body.classList.add("opened");
  if (was) ticks();
}

function close() {
  panel.hidden = true;
  document.body.classList.remove("opened");
  ticks();
  list.focus({ preventScroll: true });
}
