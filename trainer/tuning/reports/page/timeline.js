// When each trial ran, on as many rows as ran at once; where it waited after an interruption.

function timeline(lead = "Each trial from its start to its end. An orange mark is an interruption, the empty part after it the wait until it went on.") {
  const body = section("timeline", "Timeline", lead);
  const told = T.filter((t) => t.a !== null && !t.p);
  if (!told.length) return say(body, "No trial has started yet."), body;
  const end = Math.max(...told.map((t) => (t.b === null ? D.totals.seconds : t.b)), 1), lanes = [], lane = new Map();
  told.slice().sort((a, b) => a.a - b.a || a.n - b.n).forEach((t) => {
    let row = lanes.findIndex((free) => free <= t.a + 0.5);
    if (row < 0) row = lanes.push(0) - 1;
    lanes[row] = t.b === null ? Infinity : t.b;
    lane.set(t.n, row);
  });
  const each = Math.max(5, Math.min(22, 420 / lanes.length));
  chart(body, { label: `Timeline of ${D.job ? "the job" : plural(told.length, "trial")} on ${plural(lanes.length, "row")}`, height: () => lanes.length * each + 34, draw(c) {
    const unit = end > 3 * 86400 ? [86400, "days"] : end > 2 * 3600 ? [3600, "hours"] : end > 180 ? [60, "minutes"] : [1, "seconds"];
    const x = numbers(0, end / unit[0], "linear", 0), X = (s) => 4 + clamp(x.at(s / unit[0])) * (c.w - 12), bottom = lanes.length * each + 2;
    x.ticks(Math.floor(c.w / 60)).forEach((v) => {
      c.svg.append(svg("line", { class: "gridline", x1: X(v * unit[0]), x2: X(v * unit[0]), y1: 0, y2: bottom }));
      c.svg.append(svg("text", { x: X(v * unit[0]), y: bottom + 13, "text-anchor": v * unit[0] > end * 0.95 ? "end" : v ? "middle" : "start" }, fmt(v)));
    });
    c.svg.append(svg("text", { x: c.w / 2, y: bottom + 27, "text-anchor": "middle" }, `${unit[1]} since the ${D.job ? "job" : "study"} began`));
    told.forEach((t) => {
      const until = t.b === null ? D.totals.seconds : t.b, y = lane.get(t.n) * each + 1, w = Math.max(1.5, X(until) - X(t.a));
      c.svg.append(svg("rect", { class: `bar ${t.s}`, "data-t": t.n, x: X(t.a), y, width: w, height: each - 2, rx: Math.min(2, w / 3) }));
      t.w.forEach(([from, to]) => {
        const stop = to === null ? until : to;
        if (X(stop) - X(from) > 1) c.svg.append(svg("rect", { class: "wait", x: X(from), y: y + each * 0.22, width: X(stop) - X(from), height: (each - 2) * 0.6 }));
        c.svg.append(svg("line", { class: "cut", x1: X(from), x2: X(from), y1: y - 1, y2: y + each - 1 }));
      });
      c.marks.push({ x: X(t.a), w, y: y + each / 2, t });
    });
  } });
  const kinds = [...new Set(told.map(kindOf))];
  body.append(el("div", { class: "legend" }, kinds.map((kind) => el("span", {}, svg("svg", { viewBox: "0 0 16 12", "aria-hidden": "true" }, svg("rect", { class: `bar ${kind}`, x: 0, y: 2, width: 16, height: 8 })), kind.replace("_", " "))),
    D.totals.interruptions ? el("span", {}, svg("svg", { viewBox: "0 0 16 12", "aria-hidden": "true" }, svg("line", { class: "cut", x1: 4, x2: 4, y1: 1, y2: 11 })), "interruption") : null));
  body.append(el("p", { class: "note" }, `Cost: ${fmt(Number((D.totals.device / 3600).toPrecision(3)))} device-hours in ${dur(D.totals.seconds)}. ${D.totals.interruptions ? `Lost: ${dur(D.totals.lost)} of training, to ${plural(D.totals.interruptions, "interruption")}.` : "There was no interruption."}`));
  if (!D.job) behind(body, ["trial", "started after", "took", "interruptions", "lost"], () => told.map((t) => [t.n, dur(t.a), t.b === null ? "–" : dur(t.b - t.a), t.i, dur(t.l)]));
  return body;
}
