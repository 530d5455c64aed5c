// Every trial's value in the order of the trials, and the best so far; the learning curves behind them.

function history() {
  const body = section("history", "History", `${metric()} of every trial; the line is the best so far.`);
  const told = T.filter((t) => objective(t) !== null);
  if (!told.length) return say(body, T.length ? `No trial has reported a finite ${metric()}.` : "There are no trials yet.");
  const values = told.map((t) => objective(t));
  let kind = kindOfAxis();
  const controls = el("div", { class: "controls" });
  body.append(controls);
  const c = chart(body, { label: `History of ${metric()} over ${plural(told.length, "trial")}`, height: (w) => (w < 500 ? 250 : 300), draw(c) {
    const y = robust(values, kind, goal()), x = numbers(0, Math.max(1, T[T.length - 1].n), "linear", 0.02);
    const whole = { ...x, ticks: (most) => x.ticks(most).filter(Number.isInteger) };
    const { X, Y, box } = plot(c, { x: whole, y, xLabel: "trial", yLabel: metric() });
    const steps = bestSoFar(), usual = byDefault ? objective(byDefault) : null;
    if (usual !== null && !outside(y, usual)) c.svg.append(svg("line", { class: "usual", x1: box.l, x2: box.r, y1: Y(usual), y2: Y(usual) }));
    told.forEach((t) => {
      const v = objective(t), beyond = outside(y, v) ? (y.at(v) > 1 ? 1 : -1) : 0;
      dot(c, t, X(t.n), beyond ? (beyond > 0 ? box.t + 3 : box.b - 3) : Y(v), { beyond });
    });
    if (steps.length) {
      const at = (v) => box.b - clamp(y.at(v)) * (box.b - box.t);
      const d = steps.slice(1).map(([n, v]) => `H${X(n)}V${at(v)}`).join("");
      c.svg.append(svg("path", { class: "bestline", d: `M${X(steps[0][0])} ${at(steps[0][1])}${d}H${box.r}` }));
    }
  } });
  if (Math.min(...values) > 0) toggle(controls, "log scale", kind === "log", (on) => { kind = on ? "log" : "linear"; c.redraw(); });
  else controls.remove();
  statesLegend(body, [lineSign("bestline", "best so far"), byDefault ? lineSign("usual", "the default") : null, el("span", {}, "▲ beyond the axis")]);
  behind(body, ["trial", "state", metric(), "best so far"], () => {
    const steps = new Map(bestSoFar());
    let best = "–";
    return T.map((t) => { best = steps.has(t.n) ? steps.get(t.n) : best; return [t.n, stateName(t), t.o[view.metric] === null ? "–" : t.o[view.metric], best]; });
  });
}
function bestSoFar() {
  let best = null;
  const steps = [];
  for (const t of T) {
    const v = objective(t);
    if (v === null || !ended(t) || t.p) continue;
    if (best === null || (goal() === "max" ? v > best : v < best)) { best = v; steps.push([t.n, v]); }
  }
  return steps;
}

function curves() {
  const unit = D.study.unit, of = (t) => t.c[view.metric], told = T.filter((t) => of(t) && of(t)[1].some(finite));
  const went = told.some((t) => of(t)[2]);
  const body = section("curves", "Learning curves", `${metric()} of every trial while it learned. The best stands out, those stopped early are faded.${went ? " A trial that went on from another's state is one line with it; a ring is where it left it." : ""}`);
  if (!told.length) return say(body, `No trial has reported ${metric()} while it learned.`);
  let kind = D.metrics[view.metric].log_curves ? "log" : "linear";
  const controls = el("div", { class: "controls" });
  body.append(controls);
  const all = told.flatMap((t) => of(t)[1]).filter(finite);
  // begin, middle and end of each: a long curve does not count more than a short one
  const some = told.map((t) => of(t)[1]).flatMap((ys) => [ys[0], ys[ys.length >> 1], ys[ys.length - 1]]);
  const c = chart(body, { label: `Learning curves of ${plural(told.length, "trial")}`, height: (w) => (w < 500 ? 270 : 360), draw(c) {
    const xs = told.flatMap((t) => of(t)[0]).filter(finite);
    const y = robust(some, kind, goal()), x = numbers(least(xs)[0], most(xs)[0], "linear", 0.01);
    const { X, Y, box } = plot(c, { x, y, xLabel: unit, yLabel: metric() });
    c.svg.append(svg("clipPath", { id: "inside" }, svg("rect", { x: box.l, y: box.t - 4, width: box.r - box.l + 6, height: box.b - box.t + 6 })));
    const group = svg("g", { "clip-path": "url(#inside)" });
    c.svg.append(group);
    const rank = (t) => (t.n === D.best ? 3 : t === byDefault ? 2 : t.s === "stopped_early" ? 0 : 1);
    [...told].sort((a, b) => rank(a) - rank(b)).forEach((t) => {
      const line = lineOf(of(t), X, (v) => box.b - Math.max(-2, Math.min(3, y.at(v))) * (box.b - box.t), kind, (px, py, v, own) => {
        if (own && !outside(y, v)) c.marks.push({ x: px, y: py, t });
      });
      group.append(svg("path", { class: `line ${kindOf(t)}${t.n === D.best ? " best" : t === byDefault ? " usual" : told.length > 150 ? " many" : ""}`, d: line, "data-t": t.n }));
    });
  } });
  if (least(all)[0] > 0) toggle(controls, "log scale", kind === "log", (on) => { kind = on ? "log" : "linear"; c.redraw(); });
  else controls.remove();
  const kinds = [...new Set(told.map(kindOf))].map((kind) => lineSign(`line ${kind}`, kind.replace("_", " ")));
  body.append(el("div", { class: "legend" }, kinds, D.best === null ? null : lineSign("line best", bestName()), byDefault && told.includes(byDefault) ? lineSign("line usual", "the default") : null));
  const last = (values) => values[values.length - 1];
  behind(body, ["trial", "state", `last of ${unit}`, `last ${metric()}`, ...(went ? ["went on from"] : [])], () => told.map((t) => [t.n, stateName(t), last(of(t)[0]), last(of(t)[1]), ...(went ? [t.k] : [])]));
}
