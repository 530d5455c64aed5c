// A chart's frame: drawn as wide as it is, drawn again when that changes; what is under the pointer is told.

const charts = [];
const tip = document.getElementById("tip");

function section(id, title, lead) {
  const body = el("section", { id, "aria-label": title }, el("h2", {}, title), lead ? el("p", { class: "lead" }, lead) : null);
  document.getElementById("main").append(body);
  return body;
}
const say = (parent, text) => parent.append(el("p", { class: "note" }, text));

// draw(c): fills c.svg, which is c.w × c.h; puts {x, y, t} into c.marks, t a trial
function chart(parent, { label, height, draw, title }) {
  const root = svg("svg", { role: "group", tabindex: 0, "aria-label": `${label}. Arrow keys go through the ${D.job ? "reports" : "trials"}.` });
  const figure = el("figure", {}, title ? el("h3", {}, soft(title)) : null, root);
  parent.append(figure);
  const c = { svg: root, w: 0, h: 0, marks: [], at: -1 };
  c.redraw = () => {
    c.w = Math.floor(figure.clientWidth);
    if (c.w < 40) return;
    c.h = typeof height === "function" ? height(c.w) : height;
    c.marks = [];
    root.replaceChildren();
    root.setAttribute("height", c.h);
    root.setAttribute("viewBox", `0 0 ${c.w} ${c.h}`);
    draw(c);
    paint(c.svg);
  };
  root.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") hover(c, event); });
  root.addEventListener("pointerleave", () => { if (view.picked === null) hide(); });
  root.addEventListener("click", (event) => { const mark = near(c, event); pick(mark ? mark.t : null); if (mark) tell(mark.t, event.pageX, event.pageY); });
  root.addEventListener("keydown", (event) => step(c, event));
  charts.push(c);
  c.redraw();
  return c;
}
function near(c, event) {
  const box = c.svg.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
  let found = null, least = 26 * 26;
  for (const mark of c.marks) {
    const dx = mark.w ? Math.max(0, mark.x - x, x - mark.x - mark.w) : mark.x - x, dy = mark.y - y;
    if (dx * dx + dy * dy < least) { least = dx * dx + dy * dy; found = mark; }
  }
  return found;
}
function hover(c, event) {
  const mark = near(c, event);
  if (mark) { light(mark.t.n); tell(mark.t, event.pageX, event.pageY); } else if (view.picked === null) hide();
}
function step(c, event) {
  if (event.key === "Escape") return pick(null);
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  const marks = [...new Map(c.marks.map((mark) => [mark.t.n, mark])).values()].sort((a, b) => a.t.n - b.t.n);
  if (!by || !marks.length) return;
  event.preventDefault();
  c.at = (c.at + by + marks.length) % marks.length;
  const mark = marks[c.at], box = c.svg.getBoundingClientRect();
  pick(mark.t);
  tell(mark.t, box.left + scrollX + mark.x, box.top + scrollY + mark.y);
}
// the trial that is picked stands out everywhere
function pick(t) {
  view.picked = t ? t.n : null;
  if (t) light(t.n); else hide();
}
let lit = null;
function light(n) {
  if (n === lit) return;
  for (const old of document.querySelectorAll(".on")) old.classList.remove("on");
  lit = n;
  paint(document);
}
function paint(root) {
  if (lit === null) return;
  for (const element of root.querySelectorAll(`[data-t="${lit}"]`)) {
    element.classList.add("on");
    if (element.matches("path")) element.parentNode.append(element);
  }
}
function hide() { tip.hidden = true; light(null); }
function facts(t) {
  const pairs = D.metrics.map(({ name }, m) => [name, raw(t, m)]).filter((_, m) => m < D.study.metrics.length || m === view.metric);
  P.forEach((p, i) => { if (t.v[i] !== null) pairs.push([p.short, shown(p, t.v[i])]); });
  if (t.b !== null && t.a !== null) pairs.push(["time", dur(t.b - t.a)]);
  if (t.k !== null) pairs.push(["went on from", `trial ${t.k}`]);
  if (t.i) pairs.push(["interruptions", `${t.i}, ${dur(t.l)} lost`]);
  return pairs;
}
function listing(pairs) { return el("dl", {}, pairs.map(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])); }
// what is told under the pointer: of a trial, or what the mark itself tells
function told(t) {
  return t.told ? t.told() : { title: `Trial ${t.n}`, more: ` ${stateName(t)}${t.n === D.best ? ", the best" : ""}${t === byDefault ? ", the default" : ""}`, pairs: facts(t), note: t.r };
}
function tell(t, x, y) {
  const { title, more, pairs, note } = told(t);
  tip.replaceChildren(el("b", {}, title), more || "", listing(pairs.slice(0, 14)));
  if (pairs.length > 14) tip.append(el("div", { class: "note" }, `and ${pairs.length - 14} more in the table`));
  if (note) tip.append(el("div", { class: "note" }, note.length > 160 ? `${note.slice(0, 160)}…` : note));
  tip.hidden = false;
  const width = document.documentElement.clientWidth, box = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(x + 14, width - box.width - 8))}px`;
  const below = y + 16, fits = below + box.height < scrollY + innerHeight;
  tip.style.top = `${fits ? below : Math.max(scrollY + 4, y - box.height - 12)}px`;
}
addEventListener("keydown", (event) => { if (event.key === "Escape") pick(null); });
const resized = []; // what else is fitted to the window's width
let width = 0;
new ResizeObserver(() => {
  if (document.documentElement.clientWidth === width) return;
  width = document.documentElement.clientWidth;
  requestAnimationFrame(() => { pick(null); charts.forEach((c) => c.redraw()); resized.forEach((fit) => fit()); });
}).observe(document.documentElement);

// Axes

function plot(c, { x, y, xLabel, yLabel, left, bottom }) {
  const texts = y.ticks(5).map(y.text), wide = Math.min(c.w * 0.34, 12 + 6.4 * Math.max(1, ...texts.map((t) => String(t).length)));
  const box = { l: left === undefined ? wide : left, r: c.w - 10, t: yLabel ? 20 : 8, b: c.h - (bottom || (xLabel ? 38 : 22)) };
  const X = (v) => box.l + x.at(v) * (box.r - box.l), Y = (v) => box.b - y.at(v) * (box.b - box.t);
  y.ticks(Math.max(2, Math.floor((box.b - box.t) / 34))).forEach((v) => {
    c.svg.append(svg("line", { class: "gridline", x1: box.l, x2: box.r, y1: Y(v), y2: Y(v) }));
    c.svg.append(svg("text", { x: box.l - 6, y: Y(v) + 4, "text-anchor": "end" }, short(y.text(v), Math.floor((box.l - 6) / 6))));
  });
  const most = Math.max(2, Math.floor((box.r - box.l) / (x.levels ? 50 : 62)));
  const each = x.levels ? (box.r - box.l) / Math.min(most, x.levels) / 6.2 : 12;
  x.ticks(most).forEach((v) => {
    c.svg.append(svg("line", { class: "axis", x1: X(v), x2: X(v), y1: box.b, y2: box.b + 4 }));
    const anchor = X(v) > box.r - 16 ? "end" : X(v) < box.l + 10 && !x.levels ? "start" : "middle";
    c.svg.append(svg("text", { x: X(v), y: box.b + 16, "text-anchor": anchor }, short(x.text(v), Math.floor(each))));
  });
  c.svg.append(svg("path", { class: "axis", d: `M${box.l} ${box.t}V${box.b}H${box.r}` }));
  if (xLabel) c.svg.append(svg("text", { x: (box.l + box.r) / 2, y: c.h - 5, "text-anchor": "middle" }, short(xLabel, Math.floor(c.w / 6.2))));
  if (yLabel) c.svg.append(svg("text", { x: 2, y: 11 }, short(yLabel, Math.floor(c.w / 6.2))));
  return { X, Y, box };
}
const short = (text, most) => (String(text).length <= Math.max(2, most) ? String(text) : `${String(text).slice(0, Math.max(1, most - 1))}…`);

// what lies beyond an axis is a triangle at its edge; a failed trial is a cross
function dot(c, t, x, y, { extra = "", size = 3.6, beyond = 0 } = {}) {
  const kind = extra || kindOf(t), best = t.n === D.best;
  const attributes = { class: `dot ${kind}${best ? " best" : ""}`, "data-t": t.n };
  let shape;
  if (beyond) shape = svg("polygon", { ...attributes, points: `${x - 4},${y + 5 * beyond} ${x + 4},${y + 5 * beyond} ${x},${y - 1 * beyond}` });
  else if (kind === "failed") shape = svg("path", { ...attributes, d: `M${x - 3} ${y - 3}l6 6m0-6l-6 6` });
  else if (kind === "prior") shape = svg("rect", { ...attributes, x: x - 3, y: y - 3, width: 6, height: 6 });
  else shape = svg("circle", { ...attributes, cx: x.toFixed(1), cy: y.toFixed(1), r: best ? size + 2 : size });
  c.svg.append(shape);
  c.marks.push({ x, y, t });
}
function sign(state) {
  const inner = state === "failed" ? svg("path", { class: "dot failed", d: "M3 3l6 6m0-6l-6 6" })
    : state === "prior" ? svg("rect", { class: "dot prior", x: 3, y: 3, width: 6, height: 6 })
    : svg("circle", { class: `dot ${state}`, cx: 6, cy: 6, r: 4 });
  return svg("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" }, inner);
}
function statesLegend(parent, more) {
  const kinds = [...new Set(T.map(kindOf))];
  const items = kinds.map((kind) => el("span", {}, sign(kind), kind === "prior" ? "of an earlier study" : kind.replace("_", " ")));
  parent.append(el("div", { class: "legend" }, items, more || null));
}
const lineSign = (name, text) => el("span", {}, svg("svg", { viewBox: "0 0 16 12", "aria-hidden": "true" }, svg("path", { class: name, d: "M0 6H16" })), text);
function ramp(from, to) {
  return el("span", {}, from, el("span", { class: "ramp" }, [0, 1, 2, 3, 4, 5, 6, 7, 8].map((q) => el("i", { style: `background:var(--q${q})` }))), to);
}
function toggle(parent, text, pressed, change) {
  const button = el("button", { type: "button", "aria-pressed": String(pressed), onclick: () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    change(on);
  } }, text);
  parent.append(button);
}
// the figures of a chart as a table, made when it is opened
function behind(parent, heads, rows) {
  const details = el("details", {}, el("summary", {}, "The figures as a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.children.length > 1) return;
    const all = rows(), part = all.slice(0, 200);
    const right = heads.map((_, i) => part.length > 0 && part.every((row) => typeof row[i] === "number" || row[i] === "–" || row[i] === null));
    details.append(el("table", {},
      el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: `${right[i] ? "r" : ""} ${head.length < 6 ? "n" : ""}` }, soft(head))))),
      el("tbody", {}, part.map((row) => el("tr", {}, row.map((cell, i) => el("td", { class: right[i] && "r" }, typeof cell === "number" ? fmt(cell) : cell === null ? "–" : soft(cell))))))));
    if (all.length > part.length) say(details, `The first 200 of ${all.length}; trials.csv has them all.`);
  });
  parent.append(details);
}
