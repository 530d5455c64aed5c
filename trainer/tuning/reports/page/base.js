"use strict";
// What every chart needs: the data, elements, numbers as text, scales.

const D = JSON.parse(document.getElementById("data").textContent);
const P = D.params, T = D.trials;
const view = { metric: 0, picked: null };
const SVG = "http://www.w3.org/2000/svg";

function add(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  for (const child of [children].flat(3)) {
    if (child !== null && child !== undefined) element.append(child); // text is never read as markup
  }
  return element;
}
const el = (name, attributes, ...children) => add(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => add(document.createElementNS(SVG, name), attributes, children);

const finite = (value) => typeof value === "number" && Number.isFinite(value);

function fmt(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (Number.isInteger(value) && size < 1e6) return String(value);
  if (size >= 1e-3 && size < 1e6) return String(Number(value.toPrecision(size > 0.99 && size < 1 ? 6 : 4)));
  return value.toExponential(2).replace(/\.?0*e\+?/, "e");
}
function dur(seconds) {
  if (!finite(seconds)) return "–";
  if (seconds < 60) return `${seconds < 9.95 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}
// a long name may break after its dots and underscores
const soft = (name) => String(name).replace(/([._/])/g, "$1\u200b");
// a cell of a table: what is short stays in one line
const cell = (text, right) => el("td", { class: [right && "r", String(text).length <= 13 && "n"].filter(Boolean).join(" ") || null }, text);
const plural = (count, noun) => `${count} ${noun}${Number(count) === 1 ? "" : "s"}`;
// the trial of the default; undefined if there is none
const byDefault = T.find((t) => t.n === D.study.default);
const stateName = (t) => (t.p ? `of ${t.p}` : t.s.replace("_", " "));
const kindOf = (t) => (t.p ? "prior" : t.s);

const goal = () => D.metrics[view.metric].goal;
const metric = () => D.metrics[view.metric].name;
const objective = (t, m = view.metric) => (finite(t.o[m]) ? t.o[m] : null);
const raw = (t, m = view.metric) => (t.o[m] === null ? "–" : fmt(t.o[m])); // also what is not finite
const kindOfAxis = () => (D.metrics[view.metric].log ? "log" : "linear");
const bestName = () => (view.metric ? `best by ${D.metrics[0].name}` : "best");
const shown = (p, value) => (value === null ? "–" : p.levels ? p.levels[value] : fmt(value));
const ended = (t) => t.s === "completed" && t.f;
// trials whose value of the metric is one of full training, the best first
function ranked() {
  const sign = goal() === "max" ? -1 : 1;
  return T.filter((t) => ended(t) && objective(t) !== null).sort((a, b) => sign * (objective(a) - objective(b)) || a.n - b.n);
}
function byImportance() {
  const shares = D.importance[view.metric];
  return P.map((p, i) => i).sort((a, b) => (shares[P[b].key] || 0) - (shares[P[a].key] || 0) || a - b);
}
const varies = (i) => new Set(T.map((t) => t.v[i]).filter((v) => v !== null)).size > 1;

// Scales: `at` maps a value to 0 … 1, `ticks` are values to label

function numbers(low, high, kind, room) {
  if (kind === "log" && low <= 0) kind = "linear";
  if (kind === "reverse_log" && high >= 1) kind = "linear";
  const to = { log: Math.log10, reverse_log: (v) => -Math.log10(1 - v), linear: (v) => v }[kind || "linear"];
  let a = to(low), b = to(high);
  if (!(b > a)) { const pad = Math.abs(a) * 0.05 || 0.5; a -= pad; b += pad; }
  const margin = (b - a) * (room === undefined ? D.margin : room);
  a -= margin; b += margin;
  const at = (v) => (to(v) - a) / (b - a);
  let ticks;
  if (kind === "log") ticks = logTicks(a, b);
  else if (kind === "reverse_log") ticks = logTicks(-b, -a).map((v) => Number((1 - v).toPrecision(12))).reverse();
  else ticks = linearTicks(a, b);
  return { at, ticks: (most) => thin(ticks.filter((v) => at(v) >= -1e-9 && at(v) <= 1 + 1e-9), most), text: fmt };
}
function linearTicks(a, b) {
  const raw = (b - a) / 6, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const ticks = [];
  for (let k = Math.ceil(a / step); k * step <= b + step * 1e-9; k++) ticks.push(Number((k * step).toPrecision(12)));
  return ticks;
}
function logTicks(a, b) {
  const ticks = [], many = b - a > 2.2;
  for (let e = Math.floor(a); e <= Math.ceil(b); e++) for (const m of many ? [1] : [1, 2, 5]) ticks.push(Number((m * 10 ** e).toPrecision(12)));
  const inside = ticks.filter((v) => Math.log10(v) >= a && Math.log10(v) <= b);
  return inside.length > 1 ? ticks : linearTicks(10 ** a, 10 ** b).filter((v) => v > 0);
}
function thin(ticks, most = 6) {
  const step = Math.ceil(ticks.length / Math.max(1, most));
  return ticks.filter((_, i) => i % step === 0);
}
function levels(names) {
  const at = (i) => (i + 0.5) / names.length;
  return { at, ticks: (most) => thin(names.map((_, i) => i), most), text: (i) => names[i], levels: names.length };
}
function scaleOf(p) {
  if (p.levels) return levels(p.levels);
  return numbers(p.low, p.high, p.scale);
}
// A range that a few values far on the worse side don't squeeze; what lies outside is drawn at its edge
function robust(values, kind, better) {
  const log = kind === "log", sorted = values.filter((v) => finite(v) && (!log || v > 0)).map((v) => (log ? Math.log10(v) : v)).sort((a, b) => a - b);
  if (!sorted.length) return numbers(0, 1);
  let low = sorted[0], high = sorted[sorted.length - 1];
  const quarter = sorted[Math.ceil(0.25 * (sorted.length - 1))], upper = sorted[Math.floor(0.75 * (sorted.length - 1))];
  if (better !== "max" && upper > low) high = Math.min(high, upper + 2.5 * (upper - low));
  if (better === "max" && quarter < high) low = Math.max(low, quarter - 2.5 * (high - quarter));
  return log ? numbers(10 ** low, 10 ** high, kind, 0.05) : numbers(low, high, kind, 0.05);
}
const clamp = (share) => Math.max(0, Math.min(1, share));
const outside = (scale, v) => scale.at(v) < 0 || scale.at(v) > 1;
