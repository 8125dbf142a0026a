"""The pages in a real browser: approving by keys, two people at once, hostile texts, narrow and dark screens, accessibility."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from bot import schema
from bot.posting import approvals
from bot.schema import Approval, Scored
from tests import browser as chromium
from tests import web_run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.started() as running:
        yield running


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("web") / "runs"


@pytest.fixture(scope="module")
def url(runs: Path) -> Iterator[str]:
    runs.mkdir()
    with web_run.served(runs) as address:
        yield address


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """visitor(width): a new browser profile."""
    contexts = []

    def make(width: int = 1100) -> BrowserContext:
        context = browser.new_context(viewport={"width": width, "height": 800})
        context.set_default_timeout(30_000)
        contexts.append(context)
        return context

    yield make
    for context in contexts:
        context.close()


@pytest.fixture
def run(runs: Path, request: pytest.FixtureRequest) -> Path:
    """A new run of ten comments with a chosen reply and one without."""
    folder = runs / re.sub(r"\W+", "-", request.node.name)
    web_run.write_run(folder, 11)
    return folder


def opened(context: BrowserContext, url: str, run: Path, item: str = "") -> Page:
    page = context.new_page()
    page.goto(f"{url}runs/{run.name}/approve{f'?item={item}' if item else ''}")
    return page


def shown(page: Page) -> str:
    """The id of the comment on the page, empty at the end."""
    field = page.locator("input[name=comment_id]")
    return field.input_value() if field.count() else ""


def press(page: Page, key: str) -> None:
    """Press a key that loads another page."""
    with page.expect_navigation():
        page.keyboard.press(key)


def events(run: Path) -> list[Approval]:
    return approvals.read(run / approvals.FILE)


def test_ten_replies_are_approved_by_keys_only(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    page = opened(visitor(), url, run)
    ids = []
    for number in range(10):
        expect(page.locator("h1")).to_contain_text(f"{number} of 10 decided")
        ids.append(shown(page))
        if number == 3:
            page.keyboard.press("2")  # another candidate
        press(page, "a")
    expect(page.locator("h2").first).to_have_text("All 10 replies are decided")
    assert ids == [f"t1_{number:03}" for number in range(10)]
    assert [(each.comment_id, each.act) for each in events(run)] == [(each, "approve") for each in ids]
    rows = {row.candidate_id: row.reply for row in schema.read_rows(run / "scored.csv", Scored)}
    picked = [each.candidate_id for each in events(run)]
    assert picked == [f"{each}-{0 if number == 3 else 1}" for number, each in enumerate(ids)]
    assert [each.after for each in events(run)] == [rows[each] for each in picked]
    press(page, "u")
    assert shown(page) == ids[9] and approvals.standing(events(run)).keys() == set(ids[:9])


def test_edit_reject_skip_undo_and_a_reload_in_the_middle(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    page = opened(visitor(), url, run)
    page.keyboard.press("e")
    field = page.locator("#text")
    expect(field).to_be_focused()
    expect(field).to_have_value("The cheap one lasted longer than the good one for me. (0)")
    field.fill("Go to http://example.com and see ananas")  # its letters are no keys here
    press(page, "Control+Enter")
    expect(page.get_by_role("alert")).to_contain_text("This text must not be posted: ")
    expect(page.get_by_role("alert")).to_contain_text("(link)")
    expect(field).to_have_value("Go to http://example.com and see ananas")
    expect(field).to_be_focused()
    assert events(run) == [] and shown(page) == "t1_000"
    field.fill("I would ask the baker\nwho lives next door.")
    press(page, "Control+Enter")
    assert [(each.act, each.after) for each in events(run)] == [("edit", "I would ask the baker\nwho lives next door.")]
    page.keyboard.press("r")
    expect(page.locator("#reason")).to_be_focused()
    page.keyboard.type("says nothing, and a is a letter")
    press(page, "Enter")
    assert (events(run)[-1].act, events(run)[-1].reason) == ("reject", "says nothing, and a is a letter")
    press(page, "s")
    assert shown(page) == "t1_003"
    page.keyboard.press("e")
    page.keyboard.type("half a sentence")
    page.keyboard.press("Escape")
    expect(page.locator("#text")).not_to_be_focused()
    press(page, "j")
    press(page, "k")
    page.reload()
    assert shown(page) == "t1_003"
    page.goto(f"{url}runs/{run.name}/approve")  # resumes at the first open one
    assert shown(page) == "t1_003"
    press(page, "u")
    assert shown(page) == "t1_002" and events(run)[-1].act == "undo"
    press(page, "u")
    press(page, "u")
    assert shown(page) == "t1_000" and approvals.standing(events(run)) == {}
    press(page, "u")
    expect(page.get_by_role("status")).to_have_text("There is nothing to undo.")
    assert [each.act for each in events(run)] == ["edit", "reject", "skip", "undo", "undo", "undo"]


def named(context: BrowserContext, url: str, name: str) -> BrowserContext:
    page = context.new_page()
    page.goto(f"{url}name")
    page.fill("#who", name)
    page.keyboard.press("Enter")
    page.wait_for_url(url)
    page.close()
    return context


def test_two_people_do_not_overwrite_each_other(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    ann, bob = (opened(named(visitor(), url, name), url, run) for name in ("ann", "bob"))
    assert shown(ann) == shown(bob) == "t1_000"
    press(ann, "a")
    bob.keyboard.press("r")
    bob.keyboard.type("no")
    press(bob, "Enter")
    expect(bob.get_by_role("alert")).to_have_text("ann approved this in the meantime. Nothing was saved.")
    expect(bob.locator("article").first).to_contain_text("approved by ann")
    assert [(each.who, each.act) for each in events(run)] == [("ann", "approve")]
    bob.keyboard.press("r")  # he knows now, and means it
    bob.keyboard.type("no")
    press(bob, "Enter")
    assert [(each.who, each.act, each.reason) for each in events(run)] == [("ann", "approve", ""), ("bob", "reject", "no")]
    press(ann, "u")
    expect(ann.get_by_role("status")).to_have_text("There is nothing to undo.")  # bob acted after her
    press(bob, "u")
    press(ann, "u")
    assert [(each.who, each.act) for each in events(run)][2:] == [("bob", "undo"), ("ann", "undo")]


def test_a_decision_in_one_tab_is_known_in_the_other(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    context = named(visitor(), url, "ann")
    one, two = (opened(context, url, run) for _ in range(2))
    press(one, "a")
    press(two, "s")
    expect(two.get_by_role("alert")).to_have_text("ann approved this in the meantime. Nothing was saved.")
    expect(two.locator("article").first).to_contain_text("approved by ann")
    expect(two.locator("h1")).to_contain_text("1 of 10 decided")
    assert [(each.comment_id, each.act) for each in events(run)] == [("t1_000", "approve")]
    press(two, "u")  # either tab undoes it
    assert shown(two) == "t1_000" and events(run)[-1].act == "undo"
    press(one, "k")
    expect(one.locator("h1")).to_contain_text("0 of 10 decided")


def test_a_digit_selects_the_candidate_with_this_number(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    rows = schema.read_rows(run / "scored.csv", Scored)[:4]
    more = [replace(rows[0], candidate_id=f"t1_000-{n}", reply=f"Candidate {n}.", rank_score=0.2 - n / 100) for n in range(4, 11)]
    schema.write_rows(run / "scored.csv", Scored, [*rows, *more])
    page = opened(visitor(), url, run)
    digits = page.evaluate("[...document.querySelectorAll('.candidate')].map((each) => each.querySelector('kbd')?.textContent)")
    assert digits == ["1", "2", "3", "4", "5", "6", "7", "8", "9", None, None]
    for number in (*range(2, 10), 1):  # 1 is selected at first
        page.keyboard.press(str(number))
        selected = page.evaluate("[...document.querySelectorAll('.candidate input')].map((each) => each.checked)")
        assert selected == [each == number for each in range(1, 12)]
    page.keyboard.press("8")
    press(page, "a")
    assert [(each.candidate_id, each.after) for each in events(run)] == [("t1_000-7", "Candidate 7.")]


def controls(page: Page) -> list[tuple[list[str], str]]:
    """The keys and the label of each control that is shown: buttons, and links that look like buttons."""
    shown = page.locator("main button:visible, main a.button:visible").all()
    labels = [(each.locator("kbd:visible").all_inner_texts(), each.inner_text().split()) for each in shown]
    return [(keys, " ".join(words[len(" ".join(keys).split()) :])) for keys, words in labels]


def test_controls_show_their_keys(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    page = opened(visitor(), url, run, "t1_001")
    always = [("a", "Approve"), ("e", "Edit"), ("r", "Reject"), ("s", "Skip"), ("u", "Undo"), ("k", "Previous"), ("j", "Next")]
    assert controls(page) == [([key], label) for key, label in always]
    page.keyboard.press("e")
    assert controls(page)[0] == (["Ctrl Enter"], "Approve this text")
    page.keyboard.press("Escape")
    page.keyboard.press("r")
    assert controls(page)[0] == (["Enter"], "Reject")


def test_only_one_reply_of_a_submission_is_approved(visitor: Callable[..., BrowserContext], url: str, run: Path) -> None:
    page = opened(visitor(), url, run, "t1_009")
    press(page, "a")
    page.goto(f"{url}runs/{run.name}/approve?every=1&item=t1_010")
    expect(page.locator("section")).to_contain_text("Other comments of this submission")
    press(page, "a")
    expect(page.get_by_role("alert")).to_contain_text("another comment of this submission, and only one is posted")
    assert [each.comment_id for each in events(run)] == ["t1_009"]


def test_pages_are_accessible_and_do_not_scroll_sideways(visitor: Callable[..., BrowserContext], url: str, runs: Path) -> None:
    folder = runs / "accessible"
    web_run.write_run(folder, 3, hostile=web_run.HOSTILE)
    page = visitor().new_page()
    problems = {}
    for path in ("", "name", f"runs/{folder.name}", f"runs/{folder.name}/approve", "judge/", f"judge/{folder.name}/", "runs/none"):
        page.goto(url + path)
        assert "owned" not in page.title() and page.locator("script:not([src])").count() == 0
        for scheme, width in chromium.looks(page):
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (max(map(int, re.findall(r"\d+", background)[:3])) < 64) is (scheme == "dark")
            problems |= {(path, scheme, width): found} if (found := chromium.accessibility_problems(page, scheme)) else {}
            assert not chromium.scrolls_sideways(page), (path, width)
    assert problems == {}


def test_hostile_texts_stay_texts(visitor: Callable[..., BrowserContext], url: str, runs: Path) -> None:
    folder = runs / "hostile"
    web_run.write_run(folder, 3, hostile=web_run.LONG_HOSTILE)
    context = visitor(width=390)
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = opened(context, url, folder)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    assert not chromium.scrolls_sideways(page)
    text = page.locator(".candidate.chosen .body").inner_text()
    assert text.startswith(web_run.SCRIPT) and "\u202e" not in text and "\x1b" not in text and len(text) > 10_000
    page.keyboard.press("e")
    assert page.locator("#text").input_value().startswith(web_run.SCRIPT)
    press(page, "Control+Enter")  # unchanged, apart from the characters that are not shown
    assert page.get_by_role("alert").inner_text().startswith("This text must not be posted")
    assert all(each.startswith(url) or each.startswith("data:") for each in asked) and errors == []
    for path in ("", f"runs/{folder.name}", f"judge/{folder.name}/"):
        page.goto(url + path)
        assert "owned" not in page.title() and not chromium.scrolls_sideways(page), path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", {"A"}),
        ("name", {"A", "INPUT", "BUTTON"}),
        ("runs/{}", {"A", "SUMMARY"}),
        ("runs/{}/approve", {"A", "INPUT", "BUTTON", "SUMMARY"}),
        ("judge/", {"A"}),
        ("judge/{}/", {"A", "INPUT", "DIV", "BUTTON"}),
    ],
)
def test_the_focus_is_visible(visitor: Callable[..., BrowserContext], url: str, run: Path, path: str, expected: set[str]) -> None:
    page = visitor().new_page()
    page.goto(url + path.format(run.name))
    found = chromium.outlines(page, 24)
    assert {kind for kind, *_ in found} == expected
    assert [each for each in found if each[1] == "none" or each[2] < 1] == []


def test_the_app_listens_at_127_0_0_1_only_unless_told_otherwise(url: str) -> None:
    port = int(url.rstrip("/").rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port))  # another address of this machine


def test_judging_by_keys(visitor: Callable[..., BrowserContext], url: str, run: Path, runs: Path) -> None:
    page = visitor().new_page()
    page.goto(f"{url}judge/")
    page.get_by_text(run.name).click()
    expect(page.locator("h1")).to_contain_text("0 of 10 pairs read")
    for key in "1y":
        page.keyboard.press(key)
    press(page, "n")
    assert "1 of 10 pairs read" in page.locator("h1").inner_text()
    press(page, "u")
    assert "0 of 10 pairs read" in page.locator("h1").inner_text()
    assert (runs.parent / "data" / "judgements.csv").exists()
    page.keyboard.press("y")
    page.keyboard.press("n")
    page.locator("input[name=better]").first.focus()
    for _ in range(2):
        page.keyboard.press("ArrowDown")  # on the way to the third choice, each one is chosen for a moment
    assert page.locator("input[name=better]:checked").input_value() == "="
    assert "0 of 10 pairs read" in page.locator("h1").inner_text()
    press(page, "Enter")
    assert "1 of 10 pairs read" in page.locator("h1").inner_text()
