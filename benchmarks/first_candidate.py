"""How soon the page Try shows the first candidate after the key, in a headless Chromium. Prints a table.

    python benchmarks/first_candidate.py                              the config's models, nine comments
    python benchmarks/first_candidate.py --config tiny.toml

Starts the server. A comment that is not measured comes first, so that the models are loaded. Seconds are those of the browser, from the key
(Ctrl+Enter) to the first frame that has the first candidate, and to the choice among all candidates.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer
from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table
from web_load import ROOT, served

sys.path.insert(0, str(ROOT))

from tests import browser

COMMENTS = (
    "Which book made you laugh out loud on a train?",
    "I write better with music on. Does anybody else?",
    "The second season was so much better than the first one.",
)
ROUNDS = 3
PATIENCE = 300_000  # milliseconds, for models that are exported first
WATCH = """() => {
  const note = (name) => requestAnimationFrame(() => { window.times[name] ??= performance.now(); });
  document.addEventListener("keydown", () => { window.times = { key: performance.now() }; }, true);
  new MutationObserver((changes) => changes.some((each) => each.addedNodes.length) && note("first"))
    .observe(document.getElementById("candidates"), { childList: true });
  new MutationObserver(() => document.getElementById("outcome").hidden || note("choice"))
    .observe(document.getElementById("outcome"), { attributes: true });
}"""


def answered(page: Page, comment: str) -> tuple[float, float]:
    """Write a comment. Returns the seconds from the key to the first candidate and to the choice."""
    page.fill("#comment", comment)
    page.press("#comment", "Control+Enter")
    page.wait_for_function("window.times.choice !== undefined", timeout=PATIENCE)
    times = page.evaluate("window.times")
    if "first" not in times:
        raise SystemExit(f"no candidate for {comment!r}: {page.inner_text('#outcome')}")
    return (times["first"] - times["key"]) / 1000, (times["choice"] - times["key"]) / 1000


def main(config: Annotated[Path | None, typer.Option(help="TOML settings, such as those of other models")] = None) -> None:
    """Measure the time to the first candidate on the page Try."""
    with served(config) as (port, _), browser.started() as chromium:
        page = chromium.new_page(bypass_csp=True)  # for wait_for_function
        page.goto(f"http://127.0.0.1:{port}/try/")
        page.evaluate(WATCH)
        answered(page, "Hello there, what are you reading?")
        times = [answered(page, comment) for _ in range(ROUNDS) for comment in COMMENTS]
    table = Table(
        "seconds after the key", "median", "maximum", title=f"{len(times)} comments, load of the machine {os.getloadavg()[0]:.1f}"
    )
    for name, values in zip(("first candidate", "choice"), zip(*times, strict=True), strict=True):
        table.add_row(name, f"{statistics.median(values):.2f}", f"{max(values):.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    typer.run(main)
