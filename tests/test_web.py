"""The web app without a browser: who may use it, forms, limits, event streams, and what a page reads and writes."""

from __future__ import annotations

import html
import http.client
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Blueprint, Flask

from bot import config, schema
from bot.cli import UserError
from bot.files import FileError
from bot.posting import approvals
from bot.schema import Approval, Comment, Context, Scored, Submitted
from bot.web import app as web
from bot.web import live, reading, server
from bot.web.runs import Runs
from tests import tiny, web_run
from tests.visiting import Visitor, serve


def local(runs: Path) -> Visitor:
    return Visitor(server.make_app(*web.parts(Runs(runs), config.load(None), Path("my config.toml"), runs.parent / "judgements.csv")))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    web_run.write_run(tmp_path / "runs" / "20260301T090000Z", 4)
    return tmp_path / "runs"


# --- access -------------------------------------------------------------------------------------------------------------------


def guarded(tmp_path: Path, url: str = "", host: str = "0.0.0.0") -> tuple[Flask, str]:
    access, token = server.read_access(tmp_path / "web.json", host, url)
    pages = Blueprint("pages", __name__)
    pages.add_url_rule("/", "index", lambda: "inside")
    pages.add_url_rule("/act", "act", lambda: "done", methods=["POST"])
    return server.make_app(pages, access=access), token


def test_other_addresses_need_the_token_that_is_shown_once(tmp_path: Path) -> None:
    app, token = guarded(tmp_path)
    assert len(token) >= 32
    web = app.test_client()
    assert web.get("/").status_code == 401 and "inside" not in web.get("/").text
    assert web.get(f"/?token={token[:-1]}").status_code == 401 and web.get("/").status_code == 401
    entered = web.get(f"/?token={token}")
    assert (entered.status_code, entered.location) == (303, "/") and token not in entered.text
    cookie = entered.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and token not in cookie
    assert web.get("/").location == "/name?next=/"  # a name is asked for once
    page = Visitor(app)
    page.client = web
    page.get("/name?next=/")
    for outside in ("//evil.example", "/\t/evil.example", "/\n/evil.example", "/\\evil.example", "https://evil.example"):
        assert page.post("/name", {"who": " Ann\n\x1b B ", "next": outside}).location == "/"
    assert web.get(f"//evil.example/?token={token}").location == "/" and web.get(f"/%0A?token={token}").location == "/"
    page.get("/name")
    assert page.post("/name", {"who": " Ann\n\x1b B ", "next": "/runs"}).location == "/runs"
    assert web.get("/").text == "inside" and "Ann B" in web.get("/name").text
    again, nothing = guarded(tmp_path)
    assert nothing == "" and token not in (tmp_path / "web.json").read_text()
    assert stat.S_IMODE((tmp_path / "web.json").stat().st_mode) == 0o600
    returned = again.test_client()
    returned.set_cookie("reply_bot", cookie.partition("=")[2].partition(";")[0])
    assert returned.get("/").status_code == 303  # still signed in after a restart, without a name in this cookie
    (tmp_path / "web.json").unlink()
    new, other = guarded(tmp_path)
    assert other not in ("", token) and new.test_client().get(f"/?token={token}").status_code == 401


def test_this_machine_needs_no_token_and_leaves_no_secret_of_others(tmp_path: Path) -> None:
    app, token = guarded(tmp_path, host="127.0.0.1")
    assert token == "" and json.loads((tmp_path / "web.json").read_text())["token_sha256"] == ""
    assert app.test_client().get("/").text == "inside"
    assert guarded(tmp_path, host="127.0.0.2")[1]  # shown when it is first needed
    assert guarded(tmp_path, host="127.0.0.1")[0].test_client().get("/").text == "inside"


@pytest.mark.parametrize("name", server.FORWARDED)
def test_a_proxy_in_front_of_an_app_for_this_machine_is_refused(tmp_path: Path, name: str) -> None:
    web = guarded(tmp_path, host="127.0.0.1")[0].test_client()
    assert web.get("/", headers={name: "1.2.3.4"}).status_code == 403
    assert web.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_behind_nginx(tmp_path: Path) -> None:
    app, token = guarded(tmp_path, "https://bot.example.org", "127.0.0.1")
    web = app.test_client()
    there = {"base_url": "https://bot.example.org"}
    assert web.get("/", **there).status_code == 401 and web.get("/", base_url="https://other.example").status_code == 400
    cookie = web.get(f"/?token={token}", **there).headers["Set-Cookie"]
    assert cookie.startswith("__Host-reply_bot=") and "Secure" in cookie and "Path=/" in cookie
    page = Visitor(app)
    page.client = web
    page.get("/name", **there)
    own = {"Origin": "https://bot.example.org"}
    assert page.post("/act", {}, headers=own, **there).status_code == 400  # by whom?
    assert page.post("/name", {"who": "A\u200bnn"}, headers=own, **there).status_code == 400  # it looks like another name
    assert page.post("/name", {"who": "علی\u200cرضا"}, headers=own, **there).status_code == 303  # Persian needs the joiner
    assert page.post("/name", {"who": "Ann"}, headers=own, **there).status_code == 303
    assert page.post("/act", {}, headers=own, **there).text == "done"
    web.get(f"/?token={token}", **there)  # the link again, from a bookmark: still the same person
    assert page.post("/act", {}, headers=own, **there).text == "done"
    # nginx passes the name of the host; the scheme between it and the app is http
    assert page.post("/act", {}, headers={"Origin": "https://evil.example"}, **there).status_code == 403


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"secret": "", "token_sha256": ""}', '{"secret": "zz", "token_sha256": 1}', "\udcff"])
def test_a_damaged_file_of_secrets(tmp_path: Path, content: str) -> None:
    path = tmp_path / "web.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(FileError, match=r"web\.json: not readable .* delete it"):
        server.read_access(path, "0.0.0.0")


def test_wrong_tokens_are_limited(tmp_path: Path) -> None:
    app, token = guarded(tmp_path)
    web = app.test_client()
    statuses = [web.get("/?token=wrong").status_code for _ in range(40)]
    assert statuses[:10] == [401] * 10 and 429 in statuses
    assert web.get(f"/?token={token}").status_code == 303  # the right one still works: guessing it is hopeless


def test_forms_need_the_token_of_the_session(tmp_path: Path) -> None:
    app, _ = guarded(tmp_path, host="127.0.0.1")
    one, two = Visitor(app), Visitor(app)
    one.get("/name")
    two.get("/name")
    assert one.post("/act", {}).text == "done" and one.csrf_token != two.csrf_token
    for wrong in ("", "x", two.csrf_token):
        assert one.post("/act", {"csrf_token": wrong}).status_code == 400
    assert one.client.post("/act", headers={"X-CSRF-Token": one.csrf_token}).text == "done"
    assert app.test_client().post("/act", data={"csrf_token": ""}).status_code == 400
    assert one.post("/act", {}, headers={"Origin": "http://localhost"}).text == "done"
    assert one.post("/act", {}, headers={"Origin": "http://localhost:81"}).status_code == 403
    assert "SameSite=Strict" in one.client.get("/name").headers.get("Set-Cookie", "") or one.client.get_cookie("reply_bot")


def test_requests_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUESTS_A_MINUTE", 1)  # so that the speed of this machine does not matter
    web = guarded(tmp_path, host="127.0.0.1")[0].test_client()
    statuses = [web.get("/").status_code for _ in range(server.REQUESTS_AT_ONCE + 20)]
    assert statuses[: server.REQUESTS_AT_ONCE] == [200] * server.REQUESTS_AT_ONCE and statuses[-1] == 429
    assert web.get("/static/page.css").status_code == 200
    page = Visitor(guarded(tmp_path, host="127.0.0.1")[0])
    page.get("/name")
    assert page.post("/act", {"more": "\U0001f600" * 11_000}).status_code == 413
    assert page.post("/act", {"more": "\U0001f600" * 10_000}).status_code == 200  # the longest comment of Reddit


# --- the server ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def streaming(capsys: pytest.CaptureFixture[str]) -> tuple[str, list[str], Flask]:
    """The address of an app with an event stream; the list says when a stream was opened and closed."""
    pages, happened = Blueprint("pages", __name__), []

    def events() -> Iterator[str | None]:
        happened.append("opened")
        try:
            for number in range(10_000):
                yield server.event({"number": number}, event_id=str(number)) if number % 2 else None
                time.sleep(0.02)
        finally:
            happened.append("closed")

    pages.add_url_rule("/events", "events", lambda: server.stream(events()))  # type: ignore[arg-type]
    pages.add_url_rule("/", "index", lambda: live.browser_id() and "page")
    app = server.make_app(pages)
    return serve(app, capsys), happened, app


def test_event_streams(streaming: tuple[str, list[str], Flask]) -> None:
    address, happened, app = streaming
    first = http.client.HTTPConnection(address, timeout=10)
    first.request("GET", "/events")
    answer = first.getresponse()
    assert answer.getheader("Content-Type", "").startswith("text/event-stream") and answer.getheader("X-Accel-Buffering") == "no"
    lines = [answer.readline() for _ in range(9)]
    assert lines[:8] == [b": open\n", b"\n", b": waiting\n", b"\n", b"id: 1\n", b'data: {"number": 1}\n', b"\n", b": waiting\n"]
    more = [http.client.HTTPConnection(address, timeout=10) for _ in range(60)]
    cookies = [cookie_of(address) for _ in range(3)]
    for number, each in enumerate(more):
        each.request("GET", "/events", headers={"Cookie": cookies[number % 3]})
    answers = [each.getresponse() for each in more]
    assert [each.status for each in answers] == [200] * 60
    assert [[each.readline() for _ in range(3)][2] for each in answers] == [b": waiting\n"] * 60  # all have begun
    assert status_of(address, cookies[0]) == 503 and status_of(address, cookie_of(address)) == 200  # pages still have threads
    for each in (first, *more, answer, *answers):
        each.close()
    # The browser of status_of may be gone before its generator has begun: then that one is neither opened nor closed.
    assert soon(lambda: happened.count("closed") == happened.count("opened") >= 61)  # closed when their browsers are gone
    assert soon(lambda: status_of(address, cookies[0]) == 200)  # room again
    for number in range(server.STREAMS):
        assert soon(lambda visitor=str(number): not app.extensions["streams"].take(visitor))  # the streams before are closed by now
    assert status_of(address, cookies[1]) == 503


def soon(is_so: Callable[[], bool]) -> bool:
    """Whether it is so within a minute: the server closes a stream some time after its browser is gone."""
    deadline = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def cookie_of(address: str) -> str:
    """The cookie of a new session."""
    page = http.client.HTTPConnection(address, timeout=10)
    page.request("GET", "/")
    answer = page.getresponse()
    assert answer.read() == b"page"
    return (answer.getheader("Set-Cookie") or "").partition(";")[0]


def status_of(address: str, cookie: str) -> int:
    """The status of the answer to one more event stream of a session."""
    browser = http.client.HTTPConnection(address, timeout=10)
    browser.request("GET", "/events", headers={"Cookie": cookie})
    with closing(browser), closing(browser.getresponse()) as answer:
        return answer.status


def test_visitors_without_a_session_share_their_streams() -> None:
    pages = Blueprint("pages", __name__)
    pages.add_url_rule("/events", "events", lambda: server.stream(each for each in (None,)))
    app = server.make_app(pages)
    opened = [app.test_client().get("/events", buffered=False) for _ in range(server.STREAMS_OF_ONE + 1)]
    assert [each.status_code for each in opened] == [200] * server.STREAMS_OF_ONE + [503]
    assert "You have 20 pages open." in opened[-1].text
    opened[0].close()
    assert app.test_client().get("/events", buffered=False).status_code == 200


# --- pages --------------------------------------------------------------------------------------------------------------------


def test_the_list_of_runs_counts_what_the_files_say(runs: Path) -> None:
    web = local(runs)
    page = web.get("/").text
    assert "01 Mar 2026, 09:00 UTC" in page and "4 comments · 16 candidates · 3 chosen" in page and "nothing submitted" in page
    assert '<span class="count">3</span>' in page
    row = schema.read_rows(runs / "20260301T090000Z" / "chosen.csv", Scored)[0]
    posted = Submitted(row.comment_id, row.thread_id, row.candidate_id, "posted", "t1_x", 1_772_400_000, row.reply)
    schema.write_rows(runs / "20260301T090000Z" / "submitted.csv", Submitted, [posted])
    page = web.get("/").text
    assert "1 posted" in page and row.reply in page and '<span class="count">2</span>' in page
    (runs / "broken").mkdir()
    shutil.copytree(runs / "20260301T090000Z", runs / "broken", dirs_exist_ok=True)
    (runs / "broken" / "chosen.csv").write_text("x\n1\n")
    (runs / "not a run").mkdir()
    page = web.get("/").text
    assert "broken" in page and "chosen.csv: " in page and "not a run" not in page
    assert web.get("/runs/broken").status_code == 409
    assert web.get("/runs/20260301T090000Z").status_code == 200


def test_the_command_shows_one_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web_run.write_run(runs / "another", 3)
    monkeypatch.chdir(runs.parent)  # for the files of web.state and of the ledger
    monkeypatch.setattr(web, "live_parts", lambda *_: [])
    served: list[tuple[Any, ...]] = []
    monkeypatch.setattr(server, "serve", lambda *arguments: served.append(arguments))
    web.main(run=runs / "20260301T090000Z", port=0)
    app, listening, *rest = served[0]
    assert rest == ["127.0.0.1", ""] and listening.getsockname()[0] == "127.0.0.1"  # no token
    listening.close()
    page = Visitor(app)
    shown = page.get("/").text
    assert "4 comments · 16 candidates · 3 chosen" in shown and "another" not in shown
    assert "What I learned about the sourdough" in page.get("/runs/20260301T090000Z").text
    assert page.get("/runs/20260301T090000Z/approve").status_code == 200 and page.fields["comment_id"] == "t1_000"
    assert [page.get(f"/runs/another{path}").status_code for path in ("", "/approve")] == [404, 404]
    with pytest.raises(UserError, match=r"runs: not a run folder; give the --out of a run"):
        web.main(run=runs)
    assert len(served) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/runs/..", "/runs/%2e%2e", "/runs/..%2fsecret", "/runs/secret", "/runs/%2fetc", "/runs/../secret/approve", "/runs/link",
        "/runs/linked", "/judge/..%2fsecret/", "/judge/secret/", "/runs/.", "/runs/%00", "/static/../server.py", "/static/%2e%2e/server.py",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_run_folders(runs: Path, path: str) -> None:
    web_run.write_run(runs.parent / "secret", 3)
    (runs / "link").symlink_to(runs.parent / "secret")
    shutil.copytree(runs / "20260301T090000Z", runs / "linked")
    (runs / "linked" / "comments.csv").unlink()
    (runs / "linked" / "comments.csv").symlink_to("/etc/passwd")
    answer = local(runs).get(path, follow_redirects=True)
    assert answer.status_code in (400, 404) and "sourdough" not in answer.text and "root:" not in answer.text


def test_the_comments_above() -> None:
    others = {name: Context("t3_a", name, parent, f"text {name}", "x") for name, parent in ("ab", "bc", "ct", "de", "ed")}
    assert [body for _, body in reading.chain("a", others)] == ["text c", "text b", "text a"]
    assert reading.chain("t", others) == [] and len(reading.chain("d", others)) == 2  # a circle, in a damaged file
    long = {str(n): Context("t3_a", str(n), str(n + 1), str(n), "x") for n in range(50)}
    assert [body for _, body in reading.chain("0", long)] == [str(n) for n in range(reading.ANCESTORS)][::-1]


def test_the_page_shows_the_comment_and_its_candidates_the_chosen_one_first(runs: Path) -> None:
    """With title and time of the comment, and the scores and the reason of each candidate."""
    page = local(runs)
    shown = re.findall(r"<article.*?</article>|<label class=.candidate.*?</label>", page.get("/runs/20260301T090000Z/approve").text, re.S)
    assert [" ".join(html.unescape(re.sub(r"<[^>]+>", " ", each)).split()) for each in shown] == [
        "r/ books · 1 of 3 What I learned about the sourdough elder I gave up on the sourdough years ago. reader_0 · 3 karma · "
        "09 Oct 2025, 08:53 UTC · t1_000 Has anybody tried the sourdough like this? It is my attempt number 1, and it failed again.",
        "1 chosen realism 0.50 · upvote 0.50 · relevance 0.30 · rank 0.70 The cheap one lasted longer than the good one for me. (0)",
        "2 kept another candidate for the same comment has a better rank score · realism 0.40 · upvote 0.50 · relevance 0.30 · rank 0.60 "
        "Mine needed a warmer spot, then it was fine after two days. (0)",
        "3 refused rank score below the threshold; not replying is better · realism 0.60 · upvote 0.50 · relevance 0.30 · rank 0.40 "
        "You could ask at the shop, they usually know. (0)",
        "4 refused insults somebody · realism 0.70 · upvote 0.50 · relevance 0.30 · rank 0.30 You are an idiot.",
    ]
    assert page.fields["candidate_id"] == "t1_000-1"  # the chosen one is selected


def post(page: Visitor, act: str, **more: str) -> tuple[int, str]:
    """Send the form of the page that was loaded last."""
    data = {"act": act, **page.fields, **more}
    answer = page.post("/runs/20260301T090000Z/approve", data)
    return answer.status_code, answer.text


def test_a_form_cannot_approve_what_was_not_shown(runs: Path) -> None:
    page = local(runs)
    shown = page.get("/runs/20260301T090000Z/approve").text
    assert "t1_000" in page.fields["comment_id"] and "I gave up on the sourdough years ago." in shown
    assert post(page, "publish")[0] == 400
    assert post(page, "approve", comment_id="t1_999")[0] == 404
    status, answer = post(page, "approve", version="other")
    assert status == 409 and "changed since this page was loaded" in answer
    for unknown in ("", "t1_000-9", "t1_001-1"):
        status, answer = post(page, "approve", candidate_id=unknown)
        assert status == 409 and "changed since this page was loaded" in answer
    status, answer = post(page, "approve", candidate_id="t1_000-1", seen="5")
    assert status == 409 and "Nothing was saved" in answer
    status, answer = post(page, "approve", candidate_id="t1_000-3")  # refused as an insult
    assert status == 422 and "insult" in answer
    for empty in (" \n ", "\u200b\u3164"):
        status, answer = post(page, "edit", text=empty)
        assert status == 422 and "The text is empty" in answer
    status, answer = post(page, "reject", reason="  ")
    assert status == 422 and "Write why" in answer
    assert not (runs / "20260301T090000Z" / approvals.FILE).exists()


def test_the_command_that_posts_has_the_same_settings(runs: Path) -> None:
    page = local(runs)
    page.get("/runs/20260301T090000Z/approve")
    for _ in range(3):
        assert post(page, "reject", reason="no")[0] == 303
        page.get("/runs/20260301T090000Z/approve")
    shown = html.unescape(page.get("/runs/20260301T090000Z/approve").text)
    folder = runs / "20260301T090000Z"
    assert f"<code>python run_bot.py submit --run {folder} --config 'my config.toml' --post</code>" in shown


@pytest.mark.parametrize(("every", "expected"), [("", [2, 3, 4]), ("?every=1", [2, 0, 5, 4, 1, 3])])
def test_the_queue_is_in_the_order_of_the_submissions(runs: Path, every: str, expected: list[int]) -> None:
    """The comments of a submission are together, the one with the chosen reply first."""
    run, page = runs / "20260301T090000Z", local(runs)
    comments = web_run.write_run(run, 6)
    thread_of = {row.comment_id: f"t3_{letter}" for row, letter in zip(comments, "babcab", strict=True)}
    scored = schema.read_rows(run / "scored.csv", Scored)
    for row in scored:
        row.thread_id = thread_of[row.comment_id]
        if row.comment_id in ("t1_000", "t1_001") and row.verdict == "chosen":
            row.verdict, row.reason = "kept", "other_comment_in_submission"
    schema.write_rows(run / "comments.csv", Comment, [replace(row, thread_id=thread_of[row.comment_id]) for row in comments])
    schema.write_rows(run / "scored.csv", Scored, scored)
    for number in expected:
        page.get(f"/runs/20260301T090000Z/approve{every}")
        assert page.fields["comment_id"] == f"t1_{number:03}"
        assert page.post(f"/runs/20260301T090000Z/approve{every}", {"act": "skip", **page.fields}).status_code == 303
    assert "The rest was skipped" in page.get(f"/runs/20260301T090000Z/approve{every}").text


def test_every_act_is_an_event(runs: Path) -> None:
    page, start = local(runs), int(time.time())
    for act, more in [
        ("approve", {"candidate_id": "t1_000-0"}),
        ("edit", {"text": "First line.  \r\nSecond line.\r\n"}),
        ("undo", {}),
        ("reject", {"reason": "off\x1b topic"}),
        ("skip", {}),
    ]:
        page.get("/runs/20260301T090000Z/approve")
        assert post(page, act, **more)[0] == 303
    events = approvals.read(runs / "20260301T090000Z" / approvals.FILE)
    reply = {row.candidate_id: row.reply for row in schema.read_rows(runs / "20260301T090000Z" / "scored.csv", Scored)}
    assert [(each.comment_id, each.candidate_id, each.act, each.before, each.after, each.reason) for each in events] == [
        ("t1_000", "t1_000-0", "approve", reply["t1_000-0"], reply["t1_000-0"], ""),
        ("t1_001", "t1_001-1", "edit", reply["t1_001-1"], "First line.\nSecond line.", ""),
        ("t1_001", "t1_001-1", "undo", "First line.\nSecond line.", "", ""),
        ("t1_001", "t1_001-1", "reject", reply["t1_001-1"], "", "off topic"),
        ("t1_002", "t1_002-1", "skip", reply["t1_002-1"], "", ""),
    ]
    assert all(start <= each.event_utc <= time.time() and each.who for each in events)
    assert "The rest was skipped" in page.get("/runs/20260301T090000Z/approve").text


def test_the_page_shows_what_changed_after_an_approval(runs: Path) -> None:
    page, run = local(runs), runs / "20260301T090000Z"
    page.get("/runs/20260301T090000Z/approve")
    assert post(page, "approve")[0] == 303
    rows = schema.read_rows(run / "scored.csv", Scored)
    rows[1].reply = "Another text."
    schema.write_rows(run / "scored.csv", Scored, rows)
    assert "changed since it was approved" in page.get("/runs/20260301T090000Z/approve").text
    assert page.fields["comment_id"] == "t1_000"  # it has to be decided again
    assert post(page, "approve", candidate_id="t1_000-0")[0] == 303
    schema.write_rows(run / "scored.csv", Scored, rows[1:])
    shown = page.get("/runs/20260301T090000Z/approve?item=t1_000").text
    assert "changed since it was approved" in shown and 'value="t1_000-1" checked' in shown  # the approved candidate is gone


def test_a_damaged_file_of_approvals_is_a_one_line_error_that_says_what_to_do(runs: Path) -> None:
    page, run = local(runs), runs / "20260301T090000Z"
    page.get("/runs/20260301T090000Z/approve")
    assert post(page, "approve")[0] == 303
    with (run / approvals.FILE).open("a") as file:
        file.write("half a line")
    for path in ("/", "/runs/20260301T090000Z/approve"):
        assert re.search(r"approvals\.csv: row 2 has 1 cells, .*; correct the file, or move it away and decide again", page.get(path).text)


def test_an_approval_that_was_changed_by_hand_has_to_be_decided_again(runs: Path) -> None:
    page, run = local(runs), runs / "20260301T090000Z"
    page.get("/runs/20260301T090000Z/approve")
    assert post(page, "approve")[0] == 303
    events = approvals.read(run / approvals.FILE)
    (run / approvals.FILE).unlink()
    schema.append_rows(run / approvals.FILE, Approval, [replace(events[0], after="Another text.")])
    assert "changed since it was approved" in page.get("/runs/20260301T090000Z/approve").text
    assert page.fields["comment_id"] == "t1_000"


def test_the_time_for_approval(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs / "20260301T090000Z"
    rows = schema.read_rows(run / "chosen.csv", Scored)
    monkeypatch.setenv("BOT_SUBMIT__APPROVAL_TIMEOUT_HOURS", "2")
    schema.write_rows(run / "chosen.csv", Scored, rows, chosen_utc=1_767_225_600)  # copied later: the file's own time does not count
    assert "The time for approval ended at 01 Jan 2026, 02:00 UTC" in local(runs).get("/runs/20260301T090000Z/approve").text
    for path in run.glob("chosen.csv*"):
        path.unlink()
    assert "for approval" not in local(runs).get("/runs/20260301T090000Z/approve").text


def is_command_of(process: Path, runs: Path) -> bool:
    """Whether another process than this one was started with this folder."""
    try:
        return process.name != str(os.getpid()) and str(runs).encode() in (process / "cmdline").read_bytes()
    except OSError:  # it has ended
        return False


def test_the_app_has_no_credentials_and_no_model(runs: Path, tmp_path: Path) -> None:
    """The process of the app has none of PRAW's variables, and imports no framework."""
    lm = tiny.language_model(tmp_path / "lm")
    config = web_run.WITHOUT_MODELS.replace('model = "none"', f'model = "{lm}"')
    with web_run.served(runs, config, praw_client_secret="hunter2", PRAW_PASSWORD="hunter2") as url:
        process = next(each for each in Path("/proc").iterdir() if each.name.isdigit() and is_command_of(each, runs))
        web = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
        for path in ("/", "/runs/20260301T090000Z", "/runs/20260301T090000Z/approve", "/judge/20260301T090000Z/"):
            web.request("GET", path)
            answer = web.getresponse()
            assert answer.status == 200 and b"hunter2" not in answer.read()
        libraries = (process / "maps").read_text()
        assert "libtorch" not in libraries and "tensorflow" not in libraries and "ctranslate2" not in libraries
