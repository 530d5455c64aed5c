// All trials: as many columns as there is room for, sorted by any, filtered by words; a row opens to show the rest.

const table = { sort: "trial", down: false, words: "", state: "", count: 25, open: new Set(), columns: 0, body: null };

function columns() {
  const shownFirst = D.metrics.map((_, m) => m).filter((m) => m < D.study.metrics.length || m === view.metric);
  const column = (m) => ({ name: D.metrics[m].name, right: true, of: (t) => objective(t, m), show: (t) => raw(t, m) });
  const list = [
    { name: "trial", right: true, of: (t) => t.n, show: (t) => t.n },
    { name: "state", of: (t) => stateName(t), show: (t) => el("span", { class: "state" }, sign(kindOf(t)), stateName(t), t === byDefault ? " (default)" : "") },
    ...shownFirst.map(column),
    ...byImportance().map((i) => ({ name: P[i].short, right: !P[i].levels, of: (t) => t.v[i], text: (t) => shown(P[i], t.v[i]), show: (t) => shown(P[i], t.v[i]) })),
    ...D.metrics.map((_, m) => m).filter((m) => !shownFirst.includes(m)).map(column),
    { name: "time", right: true, of: (t) => (t.b === null || t.a === null ? null : t.b - t.a), show: (t) => (t.b === null || t.a === null ? "–" : dur(t.b - t.a)) },
    { name: "interruptions", right: true, of: (t) => t.i, show: (t) => t.i },
    { name: "reason", of: (t) => t.r, show: (t) => t.r },
  ];
  return list;
}
function trials() {
  const body = section("trials", "All trials");
  if (!T.length) return say(body, "There are no trials yet.");
  const states = [...new Set(T.map((t) => stateName(t)))], all = columns();
  const change = (name, value) => { table[name] = value; table.count = 25; fillTrials(); };
  body.append(el("div", { class: "controls" },
    el("input", { type: "search", id: "filter", "aria-label": "Filter the trials", placeholder: "filter: words, or lr<0.01", value: table.words, oninput: (event) => change("words", event.target.value) }),
    el("label", {}, "state", el("select", { onchange: (event) => change("state", event.target.value) }, el("option", { value: "" }, "all"), states.map((state) => el("option", { value: state }, state)))),
    el("label", {}, "sort by", el("select", { id: "sort", onchange: (event) => change("sort", event.target.value) }, all.map((column) => el("option", { value: column.name, selected: column.name === table.sort }, column.name)))),
    el("button", { type: "button", id: "turn", onclick: () => change("down", !table.down) }, "turn round")));
  table.body = el("div");
  body.append(table.body);
  table.columns = 0;
  fitTrials();
}
// fewer columns on a narrow screen instead of a sideways scroll; metrics come before parameters
function fitTrials() {
  if (!table.body || !table.body.isConnected) return;
  const wide = table.body.clientWidth, count = Math.max(3, Math.min(columns().length - 1, Math.floor((wide - 60) / 88)));
  if (count === table.columns) return;
  table.columns = count;
  fillTrials();
}
resized.push(fitTrials);
function matching(all) {
  const terms = table.words.toLowerCase().split(/\s+/).filter(Boolean);
  const known = (name) => all.find((column) => column.name.toLowerCase() === name) || all.find((column) => column.name.toLowerCase().startsWith(name));
  const fits = (t, term) => {
    const part = term.match(/^([^<>=]+)(<=|>=|<|>|=)(.+)$/), column = part && known(part[1]);
    if (column && part[2] !== "=") {
      const value = column.of(t), bound = Number(part[3]);
      return finite(value) && { "<": value < bound, ">": value > bound, "<=": value <= bound, ">=": value >= bound }[part[2]];
    }
    if (column) return String((column.text || column.of)(t)).toLowerCase() === part[3];
    return all.some((column) => String((column.text || column.of)(t)).toLowerCase().includes(term));
  };
  return T.filter((t) => (!table.state || stateName(t) === table.state) && terms.every((term) => fits(t, term)));
}
function fillTrials() {
  const all = columns(), by = all.find((column) => column.name === table.sort) || all[0];
  const rows = matching(all), turn = table.down ? -1 : 1;
  rows.sort((s, t) => { // what has no value comes last, whichever way round
    const a = by.of(s), b = by.of(t), none = (v) => v === null || v === undefined || v === "";
    if (none(a) || none(b)) return none(a) - none(b) || s.n - t.n;
    return turn * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b))) || s.n - t.n;
  });
  const list = all.slice(0, table.columns);
  if (!list.includes(by) && by.name !== "reason") list[list.length - 1] = by;
  const heads = list.map((column) => el("th", { scope: "col", class: column.right && "r", "aria-sort": column === by ? (table.down ? "descending" : "ascending") : null },
    el("button", { type: "button", onclick: () => { table.down = table.sort === column.name ? !table.down : false; table.sort = column.name; fillTrials(); } }, soft(column.name), column === by ? (table.down ? " ↓" : " ↑") : "")));
  const lines = rows.slice(0, table.count).flatMap((t) => {
    const open = table.open.has(t.n);
    const button = el("button", { type: "button", "aria-expanded": String(open), "aria-label": `Trial ${t.n}: ${open ? "less" : "more"}`, onclick: () => { if (open) table.open.delete(t.n); else table.open.add(t.n); fillTrials(); } }, open ? "–" : "+");
    const line = el("tr", { "data-t": t.n, onmouseenter: () => light(t.n) }, list.map((column) => el("td", { class: column.right && "r" }, column.show(t))), el("td", { class: "r" }, button));
    return open ? [line, el("tr", { class: "more" }, el("td", { colspan: list.length + 1 }, more(t)))] : [line];
  });
  table.body.replaceChildren(
    el("table", {}, el("thead", {}, el("tr", {}, heads, el("th", { scope: "col", class: "r" }, el("span", { class: "skip" }, "more")))), el("tbody", {}, lines)),
    el("p", { class: "note", role: "status" }, `${Math.min(table.count, rows.length)} of ${plural(rows.length, "trial")}${rows.length < T.length ? ` that fit, of ${T.length}` : ""}.`));
  if (rows.length > table.count) table.body.append(el("button", { type: "button", onclick: () => { table.count += 100; fillTrials(); } }, `Show ${Math.min(100, rows.length - table.count)} more`));
}
function more(t) {
  const pairs = [...D.metrics.map(({ name }, m) => [name, t.o[m] === null ? "–" : exact(t.o[m])]), ...P.map((p, i) => [p.key, p.levels ? shown(p, t.v[i]) : exact(t.v[i])]).filter((_, i) => t.v[i] !== null)];
  Object.entries(t.m).forEach(([name, value]) => pairs.push([name, fmt(value)]));
  if (!t.f) pairs.push(["constraints", "not kept"]);
  if (t.k !== null) pairs.push(["went on from", `trial ${t.k}`]);
  pairs.push(["device time", dur(t.d)], ["interruptions", t.i ? `${t.i}, ${dur(t.l)} lost` : "none"]);
  if (t.r) pairs.push(["reason", t.r]);
  if (t.j) pairs.push(["job", `trials/${t.j}`]);
  return listing(pairs);
}
function failures() {
  if (!D.failures.length) return;
  const body = section("failures", "Failures");
  body.append(el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col", class: "r n" }, "trials"), el("th", { scope: "col" }, "why"), el("th", { scope: "col" }, "which"))),
    el("tbody", {}, D.failures.map(([reason, which]) => el("tr", {}, el("td", { class: "r" }, which.length), el("td", {}, reason), el("td", {}, which.slice(0, 8).join(", ") + (which.length > 8 ? ", …" : "")))))));
}
