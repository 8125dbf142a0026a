"""What people look at: the page and table of a run, its journal, plots, and helpers for the notebooks."""
