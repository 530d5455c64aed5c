// The page of one job: what it came to, its metrics, when it trained, its config.

function jobSummary() {
  const J = D.job, body = section("summary", "Summary"), tiles = el("div", { class: "tiles" });
  const named = J.metrics.filter(([name]) => /^(validation|test)_/.test(name)), told = (named.length ? named : J.metrics).slice(0, 2);
  told.forEach(([name, , best, step], i) => tiles.append(tile(best, `${name}, best, at step ${step}`, i ? "" : "best")));
  tiles.append(tile(J.steps === null ? "–" : fmt(J.steps), "steps"), tile(dur(D.totals.seconds), "from start to end"),
    tile(dur(D.totals.lost), `lost to ${plural(D.totals.interruptions, "interruption")}`));
  body.append(tiles, ...J.amounts.map((line) => el("p", { class: "lead" }, line)));
  if (J.metrics.length) body.append(grid(["metric", "last", "best", "at step"], J.metrics));
}
// a table of text, the first column to the left
function grid(heads, rows, left = 1) {
  return el("table", {}, el("thead", {}, el("tr", {}, heads.map((head, i) => el("th", { scope: "col", class: i < left ? "" : "r" }, head)))),
    el("tbody", {}, rows.map((row) => el("tr", {}, row.map((text, i) => cell(String(text).length > 13 ? soft(text) : text, i >= left))))));
}
function metrics() {
  const body = section("metrics", "Metrics", `What was reported over the steps, on a log axis where it helps.${D.job.resumed.length ? " An upright mark is where the job went on after an interruption." : ""}`);
  const lines = T[0].c;
  if (!D.metrics.length) return say(body, "Nothing has been reported yet.");
  const all = el("div", { class: "grid wide" }), xs = lines.flatMap(([steps]) => steps);
  body.append(all);
  const draw = (m) => chart(all, { title: D.metrics[m].name, label: `${D.metrics[m].name} over the steps`, height: 210, draw(c) {
    const kind = D.metrics[m].log ? "log" : "linear", ys = lines[m][1].filter(finite), spread = ys.length ? numbers(least(ys)[0], most(ys)[0], kind, 0.05) : numbers(0, 1);
    const { X, Y, box } = plot(c, { x: numbers(least(xs)[0], most(xs)[0], "linear", 0.01), y: spread, xLabel: "step" });
    D.job.resumed.forEach((step) => c.svg.append(svg("line", { class: "cut faint", x1: X(step), x2: X(step), y1: box.t, y2: box.b })));
    const spots = svg("g");
    const d = lineOf(lines[m], X, Y, kind, (x, y, v, own, i) => {
      const n = lines[m][0][i];
      c.marks.push({ x, y, t: { n, told: () => ({ title: `Step ${n}`, pairs: D.metrics.map(({ name }, k) => [name, at(k, n)]).filter(([, told]) => told !== null) }) } });
      spots.append(svg("circle", { class: "spot", "data-t": n, cx: x, cy: y, r: 3.5 }));
    });
    c.svg.append(svg("path", { class: "line job", d }), spots);
  } });
  D.metrics.slice(0, 12).forEach((_, m) => draw(m));
  if (D.metrics.length > 12) {
    const button = el("button", { type: "button", onclick: () => { button.remove(); D.metrics.slice(12).forEach((_, m) => draw(m + 12)); } }, `Show ${D.metrics.length - 12} more`);
    body.append(button);
  }
  const few = D.metrics.slice(0, 4);
  behind(body, ["step", ...few.map(({ name }) => name)], () => [...new Set(lines.slice(0, 4).flatMap(([steps]) => steps))].sort((a, b) => a - b).map((n) => [n, ...few.map((_, k) => at(k, n))]));
}
// a metric's report at a step
function at(m, step) {
  const [steps, values] = T[0].c[m], i = steps.indexOf(step);
  return i < 0 ? null : fmt(values[i]);
}
function attempts() {
  const J = D.job;
  const body = timeline("From its start to its end. An orange mark is an interruption, the empty part after it the wait until it went on.");
  if (J.interruptions.length) body.append(el("h3", {}, "Interruptions"), grid(J.heads, J.interruptions));
  if (J.events.length) body.append(el("h3", {}, "What happened"), grid(["when", "after", "state", ""], J.events, 4));
}
function config() {
  const body = section("config", "Config", "All of it, as the job was started: config.yaml in its directory.");
  body.append(el("div", { class: "columns" }, D.job.config.map(([group, pairs]) => el("div", {}, el("h3", {}, soft(group)),
    el("table", { class: "pairs" }, el("tbody", {}, pairs.map(([key, value]) => el("tr", {}, el("td", {}, soft(key)), cell(value.length > 13 ? soft(value) : value, true)))))))));
}
T[0].told = () => ({ title: D.study.name, pairs: [["state", D.job.state], ["time", dur(D.totals.seconds)], ["interruptions", String(D.totals.interruptions)]] });
render(`${D.job.state}${D.job.reason ? `: ${D.job.reason}` : ""}.`, [jobSummary, metrics, attempts, config], () => null);
