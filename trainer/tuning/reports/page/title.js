// The title block, and the page as a whole: its sections, with links to them.

// lead: how it stands
function head(lead) {
  const S = D.study;
  document.getElementById("head").replaceChildren(
    el("h1", {}, S.name),
    el("p", { class: "lead" }, lead),
    el("dl", { class: "about" }, Object.entries(S.about).map(([label, told]) => [el("dt", {}, label), el("dd", {}, label === "command" ? commandLine(told) : told)])),
    ...S.notes.map((note) => el("p", { class: "note warn" }, note)));
}
// parts make a section each, again when another metric is looked at; aside: beside the links
function render(lead, parts, aside) {
  charts.length = 0;
  hide();
  document.getElementById("main").replaceChildren();
  head(lead);
  parts.forEach((part) => part());
  const links = [...document.querySelectorAll("section")].map((body) => el("a", { href: `#${body.id}` }, body.querySelector("h2").textContent));
  const bar = document.querySelector("nav");
  if (bar) bar.remove();
  document.getElementById("head").after(el("nav", { "aria-label": "Sections" }, links, aside()));
}
function commandLine(text) {
  const code = el("code", { tabindex: 0 }, text);
  const button = el("button", { type: "button", onclick: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch (error) { getSelection().selectAllChildren(code); button.textContent = "Selected"; } // a browser may forbid it
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  } }, "Copy");
  return el("div", { class: "command" }, code, button);
}
const tile = (value, text, kind) => el("div", { class: `tile ${kind || ""}` }, el("b", {}, value), el("span", {}, text));
