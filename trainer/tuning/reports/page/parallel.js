// Parallel coordinates, upright on a wide screen and lying on a phone; and the Pareto front.

const brushes = new Map(); // axis to [from, to] of 0 … 1

function parallel() {
  const body = section("parallel", "Parallel coordinates", "A line a trial, the better the stronger. Drag along an axis, or tap it, to keep only the trials that pass there; tap again to let go.");
  const told = T.filter((t) => objective(t) !== null);
  if (!told.length || !P.length) return say(body, P.length ? `No trial has reported a finite ${metric()}.` : "The study has no parameters.");
  brushes.clear();
  const sign = goal() === "max" ? -1 : 1, sorted = told.slice().sort((a, b) => sign * (objective(b) - objective(a)));
  const count = el("p", { class: "note", role: "status" });
  const c = chart(body, { label: "Parallel coordinates", height: (w) => (w < 620 ? 58 * axes(w).length + 12 : 362), draw(c) {
    const all = axes(c.w), flat = c.w < 620;
    const place = flat
      ? (a, share) => [8 + share * (c.w - 16), 30 + a * 58]
      : (a, share) => [40 + (a * (c.w - 110)) / Math.max(1, all.length - 1), 345 - share * 300];
    const group = svg("g");
    c.svg.append(group);
    sorted.forEach((t, r) => {
      let d = "", pen = "M";
      all.forEach((axis, a) => {
        const at = axis.at(t);
        if (at === null) { pen = "M"; return; }
        const [x, y] = place(a, at);
        d += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
        pen = "L";
        c.marks.push({ x, y, t });
      });
      const ninth = Math.min(8, Math.floor((9 * r) / sorted.length));
      group.append(svg("path", { class: `thread s${ninth}${t.n === D.best ? " best" : ""}${passes(t, all) ? "" : " off"}`, d, "data-t": t.n }));
    });
    all.forEach((axis, a) => drawAxis(c, axis, a, place, flat, all));
    const kept = sorted.filter((t) => passes(t, all)), best = kept[kept.length - 1];
    count.textContent = brushes.size ? `${plural(kept.length, "trial")} of ${sorted.length} ${kept.length === 1 ? "passes" : "pass"}${best ? `; the best of them is trial ${best.n} with ${fmt(objective(best))}` : ""}.` : `${plural(sorted.length, "trial")}; nothing is filtered.`;
  } });
  body.append(el("div", { class: "controls" }, el("button", { type: "button", onclick: () => { brushes.clear(); c.redraw(); } }, "Show all")), count);
  body.append(el("div", { class: "legend" }, ramp("worse", "better"), lineSign("bestline", bestName())));
  behind(body, ["trial", metric(), ...byImportance().slice(0, 2).map((i) => P[i].short)], () => sorted.slice().reverse().map((t) => [t.n, objective(t), ...byImportance().slice(0, 2).map((i) => shown(P[i], t.v[i]))]));
}
function axes(w) {
  const room = w < 620 ? 8 : Math.max(2, Math.floor(w / 105) - 1);
  const list = byImportance().slice(0, room).map((i) => {
    const scale = scaleOf(P[i]);
    return { key: P[i].key, name: P[i].short, scale, at: (t) => (t.v[i] === null ? null : clamp(scale.at(t.v[i]))) };
  });
  const scale = robust(T.map((t) => objective(t)), kindOfAxis(), goal());
  return [...list, { key: "", name: metric(), scale, at: (t) => clamp(scale.at(objective(t))) }];
}
const passes = (t, all) => all.every((axis) => {
  const brush = brushes.get(axis.key), at = axis.at(t);
  return !brush || (at !== null && at >= brush[0] && at <= brush[1]);
});
function drawAxis(c, axis, a, place, flat, all) {
  const [x0, y0] = place(a, 0), [x1, y1] = place(a, 1), room = flat ? c.w / 6.5 : 100 / 6.5;
  c.svg.append(svg("line", { class: "axis", x1: x0, y1: y0, x2: x1, y2: y1, style: "stroke: var(--dim)" }));
  c.svg.append(svg("text", { class: "strong halo", x: flat ? 8 : x0, y: flat ? y0 - 12 : 20 + 14 * (a % 2), "text-anchor": flat ? "start" : "middle" }, short(axis.name, flat ? room : 26)));
  axis.scale.ticks(flat ? Math.floor(c.w / 70) : 6).forEach((v) => {
    const share = axis.scale.at(v), [x, y] = place(a, share), anchor = share > 0.94 ? "end" : share < 0.06 ? "start" : "middle";
    c.svg.append(svg("text", { class: "strong halo", ...(flat ? { x, y: y + 15, "text-anchor": anchor } : { x: x + 5, y: y + 4 }) }, short(axis.scale.text(v), flat ? 9 : 11)));
  });
  const brush = brushes.get(axis.key);
  if (brush) {
    const [bx0, by0] = place(a, brush[0]), [bx1, by1] = place(a, brush[1]);
    c.svg.append(svg("rect", flat ? { class: "brush", x: bx0, y: y0 - 8, width: bx1 - bx0, height: 16 } : { class: "brush", x: x0 - 8, y: by1, width: 16, height: by0 - by1 }));
  }
  const hit = svg("rect", { class: "hit", tabindex: 0, role: "button", "aria-label": `${axis.key || axis.name}: arrow keys move the filter, Escape clears it`, style: `touch-action: ${flat ? "pan-y" : "pan-x"}`,
    ...(flat ? { x: 0, y: y0 - 13, width: c.w, height: 26 } : { x: x0 - 13, y: y1 - 6, width: 26, height: y0 - y1 + 12 }) });
  const share = (event) => {
    const box = c.svg.getBoundingClientRect();
    return clamp(flat ? (event.clientX - box.left - x0) / (x1 - x0) : (y0 - (event.clientY - box.top)) / (y0 - y1));
  };
  const around = (at) => {
    const n = axis.scale.levels || 5, level = Math.min(n - 1, Math.floor(at * n));
    return [level / n, (level + 1) / n];
  };
  hit.addEventListener("pointerdown", (event) => {
    const from = share(event), move = (e) => { if (Math.abs(share(e) - from) > 0.02) { brushes.set(axis.key, [Math.min(from, share(e)), Math.max(from, share(e))]); soften(c, all); } };
    const done = (e) => {
      removeEventListener("pointermove", move); removeEventListener("pointerup", done); removeEventListener("pointercancel", done);
      if (e.type === "pointerup" && Math.abs(share(e) - from) <= 0.02) {
        if (brush && from >= brush[0] && from <= brush[1]) brushes.delete(axis.key);
        else brushes.set(axis.key, around(from));
      }
      c.redraw();
    };
    addEventListener("pointermove", move); addEventListener("pointerup", done); addEventListener("pointercancel", done);
  });
  hit.addEventListener("click", (event) => event.stopPropagation());
  hit.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
    event.stopPropagation();
    if (event.key === "Escape" || event.key === "Delete") brushes.delete(axis.key);
    else if (by) {
      const n = axis.scale.levels || 5, now = brush ? Math.round(((brush[0] + brush[1]) / 2) * n - 0.5) : by > 0 ? -1 : n;
      brushes.set(axis.key, around((((now + by + n) % n) + 0.5) / n));
    } else return;
    event.preventDefault();
    c.redraw();
    c.svg.querySelectorAll(".hit")[a].focus();
  });
  c.svg.append(hit);
}
function soften(c, all) { // while a finger drags, only what changes is changed
  for (const path of c.svg.querySelectorAll(".thread")) path.classList.toggle("off", !passes(T.find((t) => t.n === Number(path.dataset.t)), all));
}

function pareto() {
  const S = D.study;
  if (S.metrics.length < 2) return;
  const body = section("pareto", "Pareto front", "The trials that no other beats in every metric; the others behind them.");
  const own = (t) => t.o.slice(0, S.metrics.length), told = T.filter((t) => own(t).every(finite)), front = new Set(D.front);
  if (!told.length) return say(body, "No trial has reported all metrics.");
  let pair = [0, 1];
  const controls = el("div", { class: "controls" });
  if (S.metrics.length > 2) {
    [0, 1].forEach((side) => controls.append(el("label", {}, side ? "up" : "across", el("select", { onchange: (event) => { pair[side] = Number(event.target.value); c.redraw(); } },
      S.metrics.map((name, i) => el("option", { value: i, selected: i === pair[side] }, name))))));
    body.append(controls);
  }
  const c = chart(body, { label: "Pareto front", height: (w) => (w < 500 ? 280 : 360), draw(c) {
    const [a, b] = pair, values = (m) => told.map((t) => t.o[m]);
    const kind = (m) => (D.metrics[m].log ? "log" : "linear"), x = robust(values(a), kind(a), S.goals[a]), y = robust(values(b), kind(b), S.goals[b]);
    const { X, Y, box } = plot(c, { x, y, xLabel: `${S.metrics[a]} (${S.goals[a]})`, yLabel: `${S.metrics[b]} (${S.goals[b]})` });
    const inside = told.filter((t) => !outside(x, t.o[a]) && !outside(y, t.o[b]));
    const line = inside.filter((t) => front.has(t.n)).sort((s, t) => s.o[a] - t.o[a]);
    if (S.metrics.length === 2 && line.length > 1) c.svg.append(svg("path", { class: "front", d: line.map((t, i) => `${i ? "L" : "M"}${X(t.o[a])} ${Y(t.o[b])}`).join("") }));
    inside.filter((t) => !front.has(t.n)).forEach((t) => dot(c, t, X(t.o[a]), Y(t.o[b]), { size: 2.8, extra: "stopped_early" }));
    inside.filter((t) => front.has(t.n)).forEach((t) => dot(c, t, X(t.o[a]), Y(t.o[b]), { size: 4.6, extra: "best" }));
    if (inside.length < told.length) c.svg.append(svg("text", { x: box.r, y: 11, "text-anchor": "end" }, `${told.length - inside.length} beyond the axes`));
  } });
  const few = body.clientWidth > 600 ? byImportance().slice(0, 2) : [], narrow = few.length + S.metrics.length > 4 && body.clientWidth < 600;
  body.append(el("h3", {}, plural(D.front.length, "trial") + " of the front"), el("table", {},
    el("thead", {}, el("tr", {}, ["trial", ...S.metrics, ...few.map((i) => P[i].short)].map((head) => el("th", { scope: "col", class: head.length < 6 ? "r n" : "r" }, soft(head))))),
    el("tbody", {}, T.filter((t) => front.has(t.n)).sort((s, t) => s.o[0] - t.o[0]).slice(0, 60).map((t) => el("tr", { "data-t": t.n }, [t.n, ...own(t), ...few.map((i) => shown(P[i], t.v[i]))].map((v) => (narrow ? el("td", { class: "r" }, fmt(v)) : cell(fmt(v), true))))))));
}
