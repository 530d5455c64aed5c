// What came out: the best trial, how to train it again, counts, time, cost; and what is different in it.

// which metric the charts show
function chooser() {
  if (D.metrics.length < 2) return null;
  const change = (event) => {
    const y = scrollY;
    view.metric = Number(event.target.value);
    study();
    scrollTo({ top: y, behavior: "instant" });
    document.getElementById("metric").focus({ preventScroll: true });
  };
  const more = D.unchosen.length ? `${plural(D.unchosen.length, "more metric")} in trials.csv` : null;
  return el("label", { title: more }, "charts show ", el("select", { id: "metric", onchange: change },
    D.metrics.map(({ name, goal }, i) => el("option", { value: i, selected: i === view.metric }, `${name} (${goal})`))));
}
function summary() {
  const S = D.study, best = T.find((t) => t.n === D.best), body = section("summary", "Summary");
  const tiles = el("div", { class: "tiles" });
  if (best) S.metrics.forEach((name, m) => tiles.append(tile(fmt(best.o[m]), `${name}, trial ${best.n} (${S.goals[m] === "max" ? "more" : "less"} is better)`, m === 0 ? "best" : "")));
  if (byDefault) S.metrics.forEach((name, m) => tiles.append(tile(raw(byDefault, m), `${name} of the default, trial ${byDefault.n}`)));
  tiles.append(tile(D.totals.trials, "trials"), tile(dur(D.totals.seconds), "from start to end"),
    tile(fmt(Number((D.totals.device / 3600).toPrecision(3))), "device-hours"),
    tile(dur(D.totals.lost), `lost to ${plural(D.totals.interruptions, "interruption")}`));
  body.append(tiles);
  body.append(el("p", {}, `${D.totals.text}.`));
  if (S.gain) body.append(el("p", { class: "gain" }, `${S.gain[0].toUpperCase()}${S.gain.slice(1)}.`));
  if (!best) return body.append(el("p", { class: T.length ? "bad" : "note" }, D.nothing));
  const left = el("div", {}, el("h3", {}, `Configuration of trial ${best.n}`), el("table", {},
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "key"), el("th", { scope: "col", class: "r" }, "value"))),
    el("tbody", {}, P.map((p, i) => best.v[i] === null ? null : el("tr", {}, el("td", {}, soft(p.key)), cell(p.levels ? shown(p, best.v[i]) : six(best.v[i]), true))))));
  const right = el("div", {}, el("h3", {}, "Train it again"), commandLine(S.command));
  if (D.model) right.append(el("h3", {}, "Its model"), commandLine(D.model));
  const shares = Object.entries(D.importance[view.metric]).filter(([, share]) => share >= 0.005).slice(0, 3);
  if (shares.length) right.append(el("h3", {}, "What matters most"), el("p", {}, shares.map(([key, share]) => `${key} ${Math.round(share * 100)} %`).join(", ")));
  if (D.front.length > 1) right.append(el("p", { class: "note" }, `This is the best by ${S.metrics[0]}; the Pareto front has ${plural(D.front.length, "trial")}.`));
  body.append(el("div", { class: "columns" }, left, right));
}
const six = (value) => (finite(value) ? String(Number(value.toPrecision(6))) : fmt(value));
const exact = (value) => (finite(value) ? String(value) : fmt(value));

function difference() {
  const body = section("difference", "The best against the default", "Every key in which the best trial's config differs from what the study started from.");
  if (D.best === null) return say(body, "There is no best trial yet.");
  if (!D.diff.length) return say(body, "Nothing differs.");
  body.append(el("table", {},
    el("thead", {}, el("tr", {}, ["key", "default", "best"].map((head, i) => el("th", { scope: "col", class: i ? "r n" : "n" }, head)))),
    el("tbody", {}, D.diff.map(([key, before, after]) => el("tr", {}, el("td", {}, soft(key)), cell(before, true), cell(after, true))))));
  if (D.same) say(body, `${plural(D.same, "other key")} are as they were.`.replace("key are", "key is").replace("they were", D.same === 1 ? "it was" : "they were"));
}
