"""Evaluation of rankers and of the candidates they pick, on held-out rows: measures, baselines, judges, the page. Reads score files."""
