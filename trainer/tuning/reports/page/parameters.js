// What the parameters do: importance, slices, contours.

function importance() {
  const body = section("importance", "Parameter importance", `Share of the variance of ${metric()} that each parameter explains (functional ANOVA), ${D.compared[view.metric] === null ? "over the completed trials" : `over the trials that came to ${plural(fmt(D.compared[view.metric]), D.study.unit.replace(/s$/, ""))}: few have completed`}.`);
  const shares = Object.entries(D.importance[view.metric]);
  if (!P.length) return say(body, "The study has no parameters.");
  if (!shares.length) return say(body, "It takes six trials with different values to tell.");
  chartBars(body, shares.slice(0, 20));
  behind(body, ["parameter", "share"], () => shares.map(([key, share]) => [key, share]));
}
function chartBars(parent, shares) {
  const most = Math.max(...shares.map(([, share]) => share));
  chart(parent, { label: "Bars of parameter importance", height: () => shares.length * 30 + 4, draw(c) {
    const wide = c.w - 46;
    shares.forEach(([key, share], i) => {
      c.svg.append(svg("text", { class: "strong", x: 0, y: 30 * i + 12 }, short(key, Math.floor(c.w / 6.4))));
      c.svg.append(svg("rect", { class: "share", x: 0, y: 30 * i + 16, height: 9, rx: 2, width: Math.max(1.5, (share / most) * wide) }));
      c.svg.append(svg("text", { x: Math.max(1.5, (share / most) * wide) + 5, y: 30 * i + 25 }, `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`));
    });
  } });
}

// which ninth of the order a trial lies in: its colour
function ninths() {
  const told = T.filter((t) => objective(t) !== null), last = Math.max(1, told[told.length - 1] ? T.length - 1 : 1);
  return new Map(told.map((t) => [t.n, Math.min(8, Math.floor((9 * T.indexOf(t)) / (last + 1)))]));
}
function slices() {
  const body = section("slices", "Slices", `${metric()} over each parameter, the most important first. The darker or brighter, the later the trial.`);
  const told = T.filter((t) => objective(t) !== null);
  if (!told.length || !P.length) return say(body, P.length ? `No trial has reported a finite ${metric()}.` : "The study has no parameters.");
  const order = ninths(), grid = el("div", { class: "grid" });
  body.append(grid);
  const y = () => robust(told.map((t) => objective(t)), "linear", goal());
  const draw = (i) => {
    const p = P[i];
    chart(grid, { title: p.key, label: `Slice of ${p.key}`, height: 200, draw(c) {
      const scale = y(), { X, Y, box } = plot(c, { x: scaleOf(p), y: scale });
      told.forEach((t) => {
        if (t.v[i] === null) return;
        const v = objective(t), beyond = outside(scale, v) ? (scale.at(v) > 1 ? 1 : -1) : 0;
        const aside = jitter(p, t, box.r - box.l);
        dot(c, t, X(t.v[i]) + aside, beyond ? (beyond > 0 ? box.t + 3 : box.b - 3) : Y(v), { extra: `order f${order.get(t.n)}`, size: 3.4, beyond });
      });
    } });
  };
  const all = byImportance();
  all.slice(0, 12).forEach(draw);
  if (all.length > 12) {
    const button = el("button", { type: "button", onclick: () => { button.remove(); all.slice(12).forEach(draw); } }, `Show ${all.length - 12} more`);
    body.append(button);
  }
  body.append(el("div", { class: "legend" }, ramp("first trial", "last trial"), lineSign("bestline", "best")));
  behind(body, ["parameter", "best at", "tried from", "to"], () => all.map((i) => {
    const values = told.map((t) => t.v[i]).filter((v) => v !== null), best = T.find((t) => t.n === D.best);
    return [P[i].key, best ? shown(P[i], best.v[i]) : "–", ...(P[i].levels ? [values.length ? [...new Set(values)].map((v) => P[i].levels[v]).join(", ") : "–", ""] : [fmt(least(values)[0]), fmt(most(values)[0])])];
  }));
}

// The best first: completed trials, then those that came further before they were stopped, then by value
function standing() {
  const done = ranked();
  const others = T.filter((t) => !ended(t) && t.s !== "failed" && t.f && objective(t) !== null), sign = goal() === "max" ? -1 : 1;
  const far = (t) => (t.x.length ? t.x[t.x.length - 1] : 0);
  return [...done, ...others.sort((a, b) => far(b) - far(a) || sign * (objective(a) - objective(b)) || a.n - b.n)];
}
function contours() {
  const body = section("contours", "Contours", `How two parameters together decide ${metric()}: trials as points, between them an estimate from the trials nearby, faint where there are none.`);
  const told = standing(), top = byImportance().filter(varies).slice(0, 3);
  if (told.length < 5 || top.length < 2) return say(body, told.length < 5 ? "It takes five trials with a value." : "It takes two parameters that vary.");
  const pairs = top.length > 2 ? [[0, 1], [0, 2], [1, 2]] : [[0, 1]], grid = el("div", { class: "grid wide" });
  body.append(grid);
  const rank = new Map(told.map((t, i) => [t.n, 1 - i / (told.length - 1)])); // 1 is best
  for (const [a, b] of pairs) {
    const i = top[a], j = top[b], points = told.filter((t) => t.v[i] !== null && t.v[j] !== null);
    if (points.length < 3) continue;
    chart(grid, { title: `${P[i].short} and ${P[j].short}`, label: `Contour of ${P[i].key} and ${P[j].key}`, height: (w) => Math.min(300, w * 0.82), draw(c) {
      const x = scaleOf(P[i]), y = scaleOf(P[j]), frame = plot(c, { x, y, xLabel: P[i].short, yLabel: P[j].short }), { X, Y, box } = frame;
      c.svg.append(field(points.map((t) => ({ x: x.at(t.v[i]), y: y.at(t.v[j]), z: rank.get(t.n) })), x, y, box));
      points.slice().reverse().forEach((t) => dot(c, t, X(t.v[i]) + jitter(P[i], t, box.r - box.l), Y(t.v[j]) + jitter(P[j], t, box.b - box.t), { extra: "sample", size: 2.8 }));
    } });
  }
  if (!grid.children.length) say(body, "Too few trials have both parameters.");
  body.append(el("div", { class: "legend" }, ramp("worse", "better"), el("span", {}, "by rank: trials that came further first, then by value")));
  behind(body, ["trial", ...top.map((i) => P[i].short), metric()].slice(0, 5), () => told.map((t) => [t.n, ...top.map((i) => shown(P[i], t.v[i])), objective(t)]));
}
// whole pixels, so that faint cells neither overlap nor leave seams
function cells(box, w, h, from, to, row) {
  const x = Math.round(box.l + from * w), y = Math.round(box.b - (row + 1) * h);
  return { x, y, width: Math.round(box.l + to * w) - x, height: Math.round(box.b - row * h) - y };
}
// trials of one level beside each other, each always at the same place
const jitter = (p, t, room) => (p.levels ? ((((t.n * 7919) % 101) / 101 - 0.5) * 0.6 * room) / p.levels.length : 0);
// A kernel estimate (Nadaraya and Watson) on a grid, runs of one colour in a row as one rectangle
function field(points, x, y, box) {
  const group = svg("g", { "shape-rendering": "crispEdges", "aria-hidden": "true" }), nx = x.levels || 56, ny = y.levels || 56;
  const wide = Math.max(0.055, Math.min(0.16, 0.42 * points.length ** -0.25)), w = (box.r - box.l) / nx, h = (box.b - box.t) / ny;
  const apart = (scale, count, a, b) => (scale.levels ? (Math.round(a * count - 0.5) === Math.round(b * count - 0.5) ? 0 : 9) : a - b);
  for (let row = 0; row < ny; row++) {
    let from = 0, now = null;
    const v = (row + 0.5) / ny;
    for (let column = 0; column <= nx; column++) {
      let name = null;
      if (column < nx) {
        const u = (column + 0.5) / nx;
        let sum = 0, weight = 0;
        for (const p of points) {
          const dx = apart(x, nx, u, p.x), dy = apart(y, ny, v, p.y), k = Math.exp(-(dx * dx + dy * dy) / (2 * wide * wide));
          sum += k * p.z; weight += k;
        }
        name = weight < 1e-9 ? "none" : `f${Math.min(8, Math.floor(9 * (sum / weight)))}${weight < 0.35 ? " thin" : ""}`;
      }
      if (name === now) continue;
      if (now && now !== "none") group.append(svg("rect", { class: now, ...cells(box, w, h, from, column, row) }));
      from = column; now = name;
    }
  }
  return group;
}
