"""The pages Try and Chat in a real Chromium, with servers that are killed, and with several servers and a real Redis."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from bot.online import answer
from bot.web import chat
from tests import browser as browsers
from tests import lively
from tests.lively import COMMENT, Server

expect.set_options(timeout=60_000)
HOSTILE = '<script>document.title="taken"</script><img src=x onerror=alert(1)> \u202eabc\u202c \u0627\u0644\u0633\u0644\u0627\u0645 '
PHONE = {"width": 360, "height": 700}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory: pytest.TempPathFactory, lively_models: Path) -> Path:
    return lively.write_config(tmp_path_factory.mktemp("lively"), lively_models)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browsers.started() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(config_file: Path) -> Iterator[Server]:
    with lively.server(config_file) as running:
        yield running


@pytest.fixture
def room(config_file: Path) -> Iterator[Server]:
    """A server with an empty room."""
    config_file.with_name("chat.jsonl").unlink(missing_ok=True)
    with lively.server(config_file, WEB__STATE=str(config_file.with_name("room.json"))) as running:
        yield running


@pytest.fixture
def visit(chromium: Browser) -> Iterator[Any]:
    """A function that opens a page in a browser session of its own. A script error or a message of the browser fails the test."""
    contexts: list[BrowserContext] = []
    problems: list[str] = []

    def open_page(address: str, **options: Any) -> Page:
        contexts.append(chromium.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if "Content Security Policy" in message.text else None)
        page.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
        page.goto(address)
        return page

    yield open_page
    for each in contexts:
        each.close()
    assert problems == []


def ask(page: Page, comment: str, **fields: str) -> None:
    page.fill("#comment", comment)
    for name, value in fields.items():
        page.fill(f"#{name}", value)
    send(page)


def send(page: Page) -> None:
    """Send the form. The page has hidden the outcome of the comment before, also if the new one is there at once."""
    with page.expect_response(lambda response: response.request.method == "POST"):
        page.keyboard.press("Control+Enter")


def soon(condition: Callable[[], object], page: Page) -> bool:
    """Whether it is so within a minute, in which the browser's calls of this process are carried out."""
    for _ in range(600):
        if condition():
            return True
        page.wait_for_timeout(100)
    return False


# --- Try -------------------------------------------------------------------------------------------------------------------------


def test_candidates_appear_one_by_one_then_scores_then_the_choice(server: Server, visit: Any) -> None:
    page: Page = visit(f"{server.url}/try/")
    streamed: list[str] = []
    page.expose_function("note", lambda text: streamed.append(text))
    page.evaluate(
        "() => new MutationObserver((changes) => changes.forEach((each) => each.addedNodes.forEach((node) => note(node.textContent))))"
        ".observe(document.getElementById('candidates'), { childList: true })"
    )
    ask(page, COMMENT, subreddit="books", title="Light reading")
    expect(page.locator("#outcome")).to_be_visible()
    assert soon(lambda: len(streamed) >= 6, page) and not any("rank" in each for each in streamed[:6])  # added before there were scores
    items = page.locator(".candidate")
    expect(items).to_have_count(6)
    assert re.search(r"rank 0\.\d\d · realism 0\.\d\d", items.first.inner_text())
    assert "Chosen: this is what the bot would post" in items.first.inner_text()
    assert re.search(r"Kept: another candidate|Refused: \w+", items.last.inner_text())
    first = [each.inner_text() for each in page.locator(".candidate .body").all()]
    send(page)
    expect(page.locator("#outcome")).to_be_visible()
    assert [each.inner_text() for each in page.locator(".candidate .body").all()] == first  # the same seed
    ask(page, COMMENT, num_candidates="2", seed="5")
    expect(items).to_have_count(2)


def test_a_comment_that_may_not_be_answered_gets_no_candidates(server: Server, visit: Any) -> None:
    page: Page = visit(f"{server.url}/try/")
    ask(page, "i want to kill myself")
    expect(page.locator("#outcome")).to_have_text("No reply. The comment is not answered: about suicide, self-harm or despair (crisis).")
    assert page.locator(".candidate").count() == 0
    ask(page, f"{server.url}/r/books/comments/1abc/title/k9z8y7x/")  # not Reddit's address, so it is a comment
    expect(page.locator("#outcome")).to_contain_text("no text except quotes and links (empty)")
    ask(page, "https://www.reddit.com/r/books/comments/1abc/title/k9z8y7x/")
    expect(page.locator("#outcome")).to_contain_text("This did not work: ")
    expect(page.locator("#outcome")).to_contain_text("no Reddit credentials")


def test_a_hostile_comment_and_wrong_values(server: Server, visit: Any) -> None:
    page: Page = visit(f"{server.url}/try/", viewport=PHONE, color_scheme="dark")
    comment = (HOSTILE * 200)[:10_000]
    ask(page, comment, title=HOSTILE, subreddit="</title>")
    expect(page.locator("#outcome")).to_be_visible()
    assert not browsers.scrolls_sideways(page) and page.title() == "Try the bot"
    csrf = page.locator("meta[name=csrf-token]").get_attribute("content") or ""
    fields = {"comment": "x", "num_candidates": "2", "temperature": "0.5", "seed": "1", "model": "lm"}
    for wrong in (
        {"comment": ""},
        {"comment": "x" * 10_001},
        {"num_candidates": "41"},
        {"temperature": "nan"},
        {"seed": "-1"},
        {"model": "../lm"},
    ):
        response = page.request.post(f"{server.url}/try/", form={**fields, **wrong}, headers={"X-CSRF-Token": csrf})
        assert response.status == 400 and next(iter(wrong)).replace("_", " ") in response.json()["error"]
    assert page.request.post(f"{server.url}/try/", form=fields).status == 400  # without the token of the session


def test_only_the_browser_that_asked_sees_the_events_and_may_cancel(server: Server, visit: Any) -> None:
    page: Page = visit(f"{server.url}/try/")
    with server.stopped():
        with page.expect_response(lambda response: response.request.method == "POST") as response:
            ask(page, COMMENT)
        job = response.value.json()["job"]
        other: Page = visit(f"{server.url}/try/")
        assert other.request.get(f"{server.url}/try/{job}/events").status == 404
        token = other.locator("meta[name=csrf-token]").get_attribute("content") or ""
        assert other.request.post(f"{server.url}/try/{job}/cancel", headers={"X-CSRF-Token": token}).status == 404
        page.click("#cancel")
        expect(page.locator("#outcome")).to_have_text("Cancelled")
    ask(page, COMMENT, num_candidates="2")
    expect(page.locator("#outcome")).to_contain_text("The bot would reply")
    lines = page.request.get(f"{server.url}/try/{job}/events").text()
    assert '"type": "cancelled"' in lines and '"type": "choice"' not in lines


def test_try_says_so_when_the_server_was_restarted(room: Server, visit: Any) -> None:
    page: Page = visit(f"{room.url}/try/")
    with room.stopped():
        ask(page, COMMENT)
        expect(page.locator("#status")).to_have_text("Writing candidates…")
        room.kill()
    room.start()
    expect(page.locator("#outcome")).to_contain_text("the server was restarted")
    ask(page, COMMENT, num_candidates="2")
    expect(page.locator("#outcome")).to_contain_text("The bot would reply")


def test_a_person_has_at_most_three_comments_in_the_queue(server: Server, visit: Any) -> None:
    page: Page = visit(f"{server.url}/try/")
    csrf = page.locator("meta[name=csrf-token]").get_attribute("content") or ""
    fields = {"comment": COMMENT, "num_candidates": "40", "temperature": "0.5", "seed": "1", "model": "lm"}
    with server.stopped():
        statuses = [page.request.post(f"{server.url}/try/", form=fields, headers={"X-CSRF-Token": csrf}).status for _ in range(5)]
        assert statuses == [200] * 3 + [429] * 2
        other: Page = visit(f"{server.url}/try/")
        ask(other, COMMENT, num_candidates="2")
        expect(other.locator("#status")).to_have_text("3 comments before this one in the queue")
    expect(other.locator("#outcome")).to_contain_text("The bot would reply")


def test_a_worker_process_that_is_killed_is_replaced(server: Server, visit: Any) -> None:
    page: Page = visit(f"{server.url}/try/")
    ask(page, COMMENT, num_candidates="2")
    expect(page.locator("#outcome")).to_contain_text("The bot would reply")
    workers = server.children()
    assert len(workers) >= len(answer.STAGES)
    for each in workers:
        os.kill(each, signal.SIGKILL)
    ask(page, COMMENT, num_candidates="2")
    expect(page.locator("#outcome")).to_contain_text("The bot would reply")


# --- Chat ------------------------------------------------------------------------------------------------------------------------


def join(visit: Any, url: str, nick: str, **options: Any) -> Page:
    page: Page = visit(f"{url}/chat/", **options)
    page.fill("#who", nick)
    page.keyboard.press("Enter")
    expect(page.locator("#connection")).to_have_text("Connected")
    return page


def write(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_have_value("")


def settled(page: Page, count: int) -> list[str]:
    """The texts of the room when `count` messages are there and each has an end."""
    expect(page.locator("#room > li")).to_have_count(count)
    waiting = page.locator("#room .waiting").filter(has_text=re.compile("Waiting|queue|Writing"))
    expect(waiting).to_have_count(0)
    return [re.sub(r"\d+:\d\d [AP]M", "", each.inner_text()) for each in page.locator("#room > li").all()]


def test_three_browsers_while_the_server_is_killed_and_restarted(room: Server, visit: Any) -> None:
    pages = [join(visit, room.url, nick) for nick in ("Ann", "Bob", "Cy")]
    for page in pages:
        write(page, COMMENT)
    before = [settled(page, 3) for page in pages]
    assert before[0] == before[1] == before[2] and any("Bot" in each for each in before[0])
    write(pages[0], "the last words before")
    room.kill()  # perhaps while it is answered
    for page in pages:
        expect(page.locator("#connection")).to_contain_text("lost")
    room.start()
    for page in pages:
        expect(page.locator("#connection")).to_have_text("Connected")
    write(pages[1], COMMENT)
    after = [settled(page, 5) for page in pages]
    assert after[0] == after[1] == after[2] and after[0][:3] == before[0]
    late = join(visit, room.url, "Di")
    assert settled(late, 5) == after[0]  # the history
    lines = [json.loads(line) for line in room.config.with_name("chat.jsonl").read_text().splitlines()]
    ends = [event["message"] for _, event in lines if event["type"] == "answer"]
    assert sorted(ends) == [event_id for event_id, event in lines if event["type"] == "message"]  # each one is answered, once


def test_two_servers_with_redis_of_which_one_is_killed(config_file: Path, visit: Any) -> None:
    with (
        lively.redis_server() as redis,
        lively.server(config_file, WEB__REDIS_URL=redis.url) as one,
        lively.server(config_file, WEB__REDIS_URL=redis.url) as two,
    ):
        ann, bob = join(visit, one.url, "Ann"), join(visit, two.url, "Bob")
        write(ann, COMMENT)
        write(bob, COMMENT)
        assert settled(ann, 2) == settled(bob, 2)
        for _ in range(3):
            write(ann, f"{COMMENT} Again?")
        expect(ann.locator("#room > li")).to_have_count(5)  # all are sent
        one.kill()  # two takes over what it has not answered
        texts = settled(bob, 5)
        assert sum("Again?" in each for each in texts) == 3
        redis.kill()
        assert not is_accepted(bob, "while Redis is away")
        redis.start()
        write_again(bob, "after Redis came back")
        assert len(settled(bob, 6)) == 6
        one.start()
        assert settled(join(visit, one.url, "Cy"), 6) == settled(bob, 6)


def is_accepted(page: Page, text: str) -> bool:
    """Write a message, and whether the server accepts it."""
    page.fill("#text", text)
    with page.expect_response(lambda response: response.request.method == "POST") as answer:
        page.keyboard.press("Enter")
    return answer.value.ok


def write_again(page: Page, text: str) -> None:
    """Write until the message is accepted."""
    for _ in range(20):
        if is_accepted(page, text):
            return
        page.wait_for_timeout(500)
    raise AssertionError(page.locator("#problem").inner_text())


def test_names_limits_and_cancelling_in_the_room(room: Server, visit: Any) -> None:
    ann, other = join(visit, room.url, "Ann"), join(visit, room.url, "\u0410nn ")  # a Cyrillic letter
    write(ann, COMMENT)
    other.fill("#text", "hello")
    other.keyboard.press("Enter")
    expect(other.locator("#problem")).to_contain_text("somebody else in this room is called")
    expect(other.locator("#text")).to_have_value("hello")
    fake = join(visit, room.url, "bot")
    fake.fill("#text", "hello")
    fake.keyboard.press("Enter")
    expect(fake.locator("#problem")).to_contain_text("choose another name")
    settled(ann, 1)
    csrf = ann.locator("meta[name=csrf-token]").get_attribute("content") or ""

    def send(text: str) -> Any:
        return ann.request.post(f"{room.url}/chat/say", form={"text": text}, headers={"X-CSRF-Token": csrf})

    assert send("x" * (chat.MAX_CHARACTERS + 1)).status == 400 and send(" ").status == 400
    with room.stopped():
        assert [send(f"{COMMENT} {n}").status for n in range(4)] == [200, 200, 200, 429]
        expect(ann.get_by_role("button", name="Cancel")).to_have_count(3)
        ann.get_by_role("button", name="Cancel").last.click()
        expect(ann.locator("#room > li").last).to_contain_text("Cancelled")
        assert send(f"{COMMENT} 4").status == 200
        expect(ann.locator("#room > li").nth(2)).to_contain_text("Next in the queue")
        expect(ann.locator("#room > li").last).to_contain_text("2 comments before this one in the queue")
        expect(other.locator("#room > li")).to_have_count(5)
        assert other.locator("#room").get_by_role("button").count() == 0  # only the own messages can be cancelled
    texts = settled(ann, 5)
    assert "Cancelled" in texts[3] and "Cancelled" not in texts[4]


def test_hostile_messages_and_a_crisis(room: Server, visit: Any) -> None:
    page = join(visit, room.url, HOSTILE[:40], viewport=PHONE)
    write(page, HOSTILE * 10)
    write(page, "i want to kill myself")
    texts = settled(page, 2)
    assert "<script>" in texts[0] and "Bot: not answered: about suicide, self-harm or despair" in texts[1]
    assert not browsers.scrolls_sideways(page) and page.title() == "Chat with the bot"
    write(page, "so what do you think?")
    assert "not answered: about suicide" in settled(page, 3)[2]  # what the same person wrote before counts


def test_two_tabs_of_one_person_show_the_same_room(room: Server, visit: Any) -> None:
    one = join(visit, room.url, "Ann")
    two = one.context.new_page()
    two.goto(f"{room.url}/chat/")
    expect(two.locator("#connection")).to_have_text("Connected")
    write(one, COMMENT)
    write(two, COMMENT)
    texts = settled(one, 2)
    assert texts == settled(two, 2) and any("Bot" in each for each in texts)
    for tab in (one, two):
        expect(tab.locator(".line.mine")).to_have_count(2)
    with room.stopped():
        write(one, COMMENT)
        two.get_by_role("button", name="Cancel").click()  # in the other tab
        for tab in (one, two):
            expect(tab.locator("#room > li").last).to_contain_text("Cancelled")


@pytest.fixture
def strict_room(config_file: Path) -> Iterator[Server]:
    """A server with an empty room, for which no candidate is good enough."""
    config_file.with_name("chat.jsonl").unlink(missing_ok=True)
    with lively.server(config_file, WEB__STATE=str(config_file.with_name("room.json")), CHOOSE__MINIMUM_RANK="1") as running:
        yield running


def test_nothing_good_enough(strict_room: Server, visit: Any) -> None:
    talk = join(visit, strict_room.url, "Ann")
    write(talk, COMMENT)
    (text,) = settled(talk, 1)
    assert "Bot: no reply is good enough" in text and talk.locator(".line.bot").count() == 0
    trial: Page = visit(f"{strict_room.url}/try/")
    ask(trial, COMMENT)
    expect(trial.locator("#outcome")).to_have_text("No reply is good enough")
    expect(trial.locator(".candidate.refused")).to_have_count(6)
    assert trial.locator(".candidate.chosen").count() == 0
    assert "rank score below the threshold" in " ".join(trial.locator(".candidate .verdict").all_inner_texts())


# --- how they look ----------------------------------------------------------------------------------------------------------------


def test_looks(room: Server, visit: Any) -> None:
    trial: Page = visit(f"{room.url}/try/")
    ask(trial, f"{COMMENT} {'w' * 300}")
    expect(trial.locator("#outcome")).to_be_visible()
    expect(trial.locator("#cancel")).to_be_hidden()
    for scheme, width in browsers.looks(trial):
        assert browsers.accessibility_problems(trial, scheme) == [] and not browsers.scrolls_sideways(trial), (scheme, width)
        background = trial.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert background == ("rgb(244, 245, 247)" if scheme == "light" else "rgb(20, 23, 27)")
        for name in ("comment", "subreddit", "title", "num_candidates", "temperature", "seed", "model", "start"):
            trial.focus(f"#{name}")
            trial.keyboard.press("Shift+Tab")
            trial.keyboard.press("Tab")  # so that the focus counts as one of the keyboard
            focus = trial.evaluate("() => [document.activeElement.id, getComputedStyle(document.activeElement).outlineStyle]")
            assert focus == [name, "solid"], (scheme, width)
        assert trial.locator("#start kbd:visible").all_inner_texts() == ["Ctrl", "Enter"]
    talk = join(visit, room.url, "Ann")
    write(talk, "w" * 300)
    write(talk, COMMENT)
    settled(talk, 2)
    for scheme, width in browsers.looks(talk):
        assert browsers.accessibility_problems(talk, scheme) == [] and not browsers.scrolls_sideways(talk), (scheme, width)
        focus = browsers.outlines(talk, 8)
        assert {kind for kind, *_ in focus} == {"A", "TEXTAREA", "BUTTON"}, (scheme, width)
        assert {style for _, style, _ in focus} == {"solid"}, (scheme, width)
        assert talk.locator("#say button kbd:visible").all_inner_texts() == ["Enter"]
