"""What a person gets of a study: report.html, tables, best.yaml, and what a terminal shows."""
