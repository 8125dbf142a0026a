"""How well rankers and their picks do on held-out rows: measures, baselines, judges, the page. Reads score files."""
