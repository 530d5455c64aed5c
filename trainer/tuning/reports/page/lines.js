// Curves as paths.

// A curve [xs, ys, points of ancestors] as a path, with a ring where it left them; of one point it is the ring alone
function lineOf([xs, ys, inherited], X, Y, kind, mark) {
  const ring = "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0m3 0";
  let d = "", pen = "M", points = 0;
  ys.forEach((v, i) => {
    if (!finite(v) || (kind === "log" && v <= 0)) { pen = "M"; return; }
    const px = X(xs[i]), py = Y(v);
    d += `${pen}${px.toFixed(1)} ${py.toFixed(1)}${inherited && i === inherited - 1 ? ring : ""}`;
    pen = "L"; points++;
    mark(px, py, v, i >= inherited, i);
  });
  return points === 1 && !inherited ? d + ring : d;
}
// Math.min of very many arguments overflows the stack
const least = (values) => [values.reduce((a, b) => Math.min(a, b), Infinity)];
const most = (values) => [values.reduce((a, b) => Math.max(a, b), -Infinity)];
