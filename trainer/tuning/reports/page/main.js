// The page: all sections, again when another metric is looked at.

function render() {
  charts.length = 0;
  hide();
  document.getElementById("main").replaceChildren();
  head();
  [summary, failures, history, curves, importance, slices, contours, parallel, pareto, timeline, difference, trials].forEach((part) => part());
  const links = [...document.querySelectorAll("section")].map((body) => el("a", { href: `#${body.id}` }, body.querySelector("h2").textContent));
  const bar = document.querySelector("nav");
  if (bar) bar.remove();
  document.getElementById("head").after(el("nav", { "aria-label": "Sections" }, links, chooser()));
}
render();
