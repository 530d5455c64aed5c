// The page of a study.

function study() {
  const S = D.study;
  render(`${S.state}${S.ends ? `: ${S.ends}` : ""}. Search ${S.search}, scheduler ${S.scheduler}, seed ${S.seed}.`,
    [summary, failures, history, curves, importance, slices, contours, parallel, pareto, () => timeline(), difference, trials], chooser);
}
study();
