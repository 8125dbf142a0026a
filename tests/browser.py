"""A headless Chromium from the system's packages, driven by Playwright, for the tests of the pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests import programs

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (360, 1100)  # of a phone and of a desktop
RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}  # of RULES, those that depend on colours: axe's cat.color


@contextmanager
def started() -> Iterator[Browser]:
    path = programs.needed("chromium", *NAMES)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


def looks(page: Page) -> Iterator[tuple[str, int]]:
    """Show the page in each colour scheme and width. Yields (scheme, width in pixels); the light schemes come first."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            yield scheme, width


def accessibility_problems(page: Page, scheme: str = "light") -> list[str]:
    """What axe-core finds on the page: rule, and the elements. For "dark", only the rules that depend on colours, since the page is
    otherwise the one that was checked in "light"."""
    found: Any = Axe().run(page, options={"runOnly": COLOURS if scheme == "dark" else RULES}).response["violations"]
    return [f"{each['id']}: {[node['html'][:120] for node in each['nodes']]}" for each in found]


# A radio button of judge.html.j2 is transparent; the label beside it shows its focus.
OUTLINE = """() => {
  const at = document.activeElement, shown = at.matches(".choice input") ? at.nextElementSibling : at, style = getComputedStyle(shown);
  return [at.tagName, style.outlineStyle, parseFloat(style.outlineWidth)];
}"""


def outlines(page: Page, count: int) -> list[tuple[str, str, float]]:
    """Tag, style and width in pixels of the outline of the elements that get the focus when the Tab key is pressed `count` times."""
    found = []
    for _ in range(count):
        page.keyboard.press("Tab")
        tag, style, width = page.evaluate(OUTLINE)
        if tag != "BODY":
            found.append((tag, style, width))
    return found


def scrolls_sideways(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
