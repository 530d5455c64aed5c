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

const bestSign = () => (D.best === null ? null : el("span", {}, svg("svg", { viewBox: "0 0 16 12", "aria-hidden": "true" }, svg("circle", { class: "dot best", cx: 8, cy: 6, r: 4 })), bestName()));
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
  const y = () => robust(told.map((t) => objective(t)), kindOfAxis(), goal());
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
  body.append(el("div", { class: "legend" }, ramp("first trial", "last trial"), bestSign()));
  behind(body, ["parameter", "best at", "tried from", "to"], () => all.map((i) => {
    const values = told.map((t) => t.v[i]).filter((v) => v !== null), best = T.find((t) => t.n === D.best);
    return [P[i].key, best ? shown(P[i], best.v[i]) : "–", ...(P[i].levels ? [values.length ? [...new Set(values)].map((v) => P[i].levels[v]).join(", ") : "–", ""] : [fmt(least(values)[0]), fmt(most(values)[0])])];
  }));
}

// The best first: completed trials, then those that came further before they were stopped, then by value
function standing() {
  const done = ranked();
  const others = T.filter((t) => !ended(t) && t.f && objective(t) !== null), sign = goal() === "max" ? -1 : 1;
  const far = (t) => { const line = t.c[view.metric]; return line ? line[0][line[0].length - 1] : 0; };
  return [...done, ...others.sort((a, b) => far(b) - far(a) || sign * (objective(a) - objective(b)) || a.n - b.n)];
}
function contours() {
  const body = section("contours", "Contours", `How two parameters together decide ${metric()}: trials as points, between them an estimate from the trials nearby, faint where there are few. The line is around the best region.`);
  const told = standing(), pairs = D.contours[view.metric];
  if (told.length < 5) return say(body, "It takes five trials with a value.");
  if (!pairs.length) return say(body, P.filter((p, i) => varies(i)).length < 2 ? "It takes two parameters that vary." : "Too few trials have both parameters.");
  const grid = el("div", { class: "grid wide" }), top = [...new Set(pairs.flatMap(({ x, y }) => [x, y]))];
  body.append(grid);
  for (const { x: i, y: j, rows } of pairs) {
    const points = told.filter((t) => t.v[i] !== null && t.v[j] !== null);
    chart(grid, { title: `${P[i].short} and ${P[j].short}`, label: `Contour of ${P[i].key} and ${P[j].key}`, height: (w) => Math.min(300, w * 0.82), draw(c) {
      const { X, Y, box } = plot(c, { x: scaleOf(P[i]), y: scaleOf(P[j]), xLabel: P[i].short, yLabel: P[j].short });
      c.svg.append(field(rows, box));
      points.slice().reverse().forEach((t) => dot(c, t, X(t.v[i]) + jitter(P[i], t, box.r - box.l), Y(t.v[j]) + jitter(P[j], t, box.b - box.t), { extra: "sample", size: 2.8 }));
    } });
  }
  body.append(el("div", { class: "legend" }, ramp("worse", "better"), lineSign("region", "best region"), bestSign(), el("span", {}, "by rank: trials that came further first, then by value")));
  behind(body, ["trial", ...top.map((i) => P[i].short), metric()], () => told.map((t) => [t.n, ...top.map((i) => shown(P[i], t.v[i])), objective(t)]));
}
// trials of one level beside each other, each always at the same place
const jitter = (p, t, room) => (p.levels ? ((((t.n * 7919) % 101) / 101 - 0.5) * 0.6 * room) / p.levels.length : 0);
// Rows of shades, the lowest first: a digit, a letter where it is faint, a dot where there is none; of one shade in a row, one rectangle
function field(rows, box) {
  const group = svg("g", { "shape-rendering": "crispEdges", "aria-hidden": "true" });
  const w = (box.r - box.l) / rows[0].length, h = (box.b - box.t) / rows.length, isBest = (row, column) => "8i".includes((rows[row] || "")[column] || ".");
  // whole pixels, so that faint cells neither overlap nor leave seams
  const left = (column) => Math.round(box.l + column * w), upper = (row) => Math.round(box.b - (row + 1) * h);
  let edge = "";
  rows.forEach((cells, row) => {
    for (const { 0: run, index } of cells.matchAll(/([^.])\1*/g)) {
      const faint = run[0] >= "a", shade = faint ? run.charCodeAt(0) - 97 : run[0];
      const x = left(index), y = upper(row);
      group.append(svg("rect", { class: `f${shade}${faint ? " thin" : ""}`, x, y, width: left(index + run.length) - x, height: upper(row - 1) - y }));
    }
    for (let column = 0; column < cells.length; column++) {
      if (!isBest(row, column)) continue;
      const [x, y, right, below] = [left(column), upper(row), left(column + 1), upper(row - 1)];
      if (!isBest(row + 1, column)) edge += `M${x} ${y}H${right}`;
      if (!isBest(row - 1, column)) edge += `M${x} ${below}H${right}`;
      if (!isBest(row, column - 1)) edge += `M${x} ${y}V${below}`;
      if (!isBest(row, column + 1)) edge += `M${right} ${y}V${below}`;
    }
  });
  group.append(svg("path", { class: "region", d: edge }));
  return group;
}
