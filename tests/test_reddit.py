"""bot.reddit.client: each response of Reddit becomes an outcome, and a POST is sent only once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import praw
import prawcore
import pytest
import time_machine

from bot import sandbox
from bot.cli import UserError
from bot.config import RedditSettings
from bot.reddit import calls
from bot.reddit import client as reddit
from bot.reddit.outcomes import Outcome
from bot.sandbox import server
from bot.sandbox.server import Box
from tests.posting import no_sleep


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        yield running


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Skip the sleeps between retries. The list has their lengths in seconds."""
    slept = no_sleep(monkeypatch)
    monkeypatch.setattr(calls.retrying, "sleep", slept.append)
    return slept


def connect(url: str) -> praw.Reddit:
    return reddit.connect(RedditSettings(url=url, timeout_seconds=5))


def first_comment(box: Box, subreddit: str, title: str) -> str:
    thread = next(row["name"] for row in box.store.submissions(subreddit) if row["title"].startswith(title))
    name: str = box.store.comments_of(thread)[0]["name"]
    return name


Whole = tuple[int, dict[str, str], Any]  # status, headers, body
Answer = Whole | None  # None: close the connection

# --- a server with scripted responses ---------------------------------------------------------------------------------------


class Script(ThreadingHTTPServer):
    """Answers each (method, path) from a list, one response per request; the last one is repeated."""

    daemon_threads = True

    def __init__(self, answers: dict[tuple[str, str], list[Answer]]) -> None:
        super().__init__(("127.0.0.1", 0), ScriptHandler)
        token = {"access_token": "t", "token_type": "bearer", "expires_in": 3600, "scope": "*"}
        self.answers: dict[tuple[str, str], list[Answer]] = {("POST", "/api/v1/access_token"): [(200, {}, token)], **answers}
        self.asked: list[tuple[str, str]] = []


class ScriptHandler(BaseHTTPRequestHandler):
    server: Script

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = (self.command, self.path.split("?")[0].rstrip("/"))
        self.server.asked.append(asked)
        answers = self.server.answers[asked]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer is None:
            self.connection.close()
            return
        status, headers, body = answer
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def scripted(**answers: list[Answer]) -> Iterator[tuple[Script, praw.Reddit]]:
    """A server and a client, for example scripted(me=[…], comment=[…])."""
    paths = {"me": ("GET", "/api/v1/me"), "comment": ("POST", "/api/comment")}
    server = Script({paths[name]: listed for name, listed in answers.items()})
    worker = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    worker.start()
    try:
        yield server, connect(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
        worker.join()


ME: Whole = (200, {}, {"name": "sandbox_reply_bot", "id": "x"})


# --- connecting ---------------------------------------------------------------------------------------------------------------


def test_the_sandbox_gets_its_own_account_and_no_proxy(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("praw_password", "a real password")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    client = connect(box.url)
    assert client.config.password == sandbox.PASSWORD
    assert reddit.account_name(client) == "sandbox_reply_bot"


def test_real_credentials_go_to_reddit_only() -> None:
    for url in ("http://example.org", "https://127.0.0.1.example.org", "http://10.0.0.1:80", "nonsense"):
        with pytest.raises(UserError, match="loopback"):
            connect(url)


def test_reddit_itself_needs_credentials_and_an_honest_user_agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no praw.ini
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("client_id", "client_secret", "username", "password"):
        monkeypatch.delenv(f"praw_{name}", raising=False)
    with pytest.raises(UserError, match="user_agent"):
        reddit.connect(RedditSettings())
    honest = RedditSettings(user_agent="linux:reply-bot:0.1 (by /u/somebody)")
    with pytest.raises(UserError, match="praw_client_id"):
        reddit.connect(honest)
    for name in ("client_id", "client_secret", "username", "password"):
        monkeypatch.setenv(f"praw_{name}", f"my_{name}")
    client = reddit.connect(honest)
    assert (client.config.username, client.config.oauth_url) == ("my_username", "https://oauth.reddit.com")
    assert "by /u/somebody" in client.config.user_agent


@pytest.mark.parametrize(
    "agent", ["", "linux:reply-bot:0.1 (by /u/unknown)", "Mozilla/5.0 (X11; Linux)", "reply-bot by /u/somebody", "a:b:c (by /u/x)"]
)
def test_a_user_agent_without_an_account_is_refused(agent: str) -> None:
    with pytest.raises(UserError, match="reddit.user_agent: does not name an account"):
        reddit.connect(RedditSettings(user_agent=agent))


def test_an_unreachable_site_is_a_one_line_error(no_waiting: list[float]) -> None:
    with scripted(me=[ME]) as (_, client):
        pass
    with pytest.raises(UserError, match=r"can't be reached \(.*refused\)") as error:
        reddit.account_name(client)
    assert "\n" not in str(error.value)
    assert len(no_waiting) >= 1  # reads are retried


def test_wrong_credentials_are_a_one_line_error(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PASSWORD", "CLIENT_SECRET"):
        with monkeypatch.context() as patch:
            patch.setattr(reddit.sandbox, name, "guess")
            client = connect(box.url)
        with pytest.raises(UserError, match="wrong account or client"):
            reddit.account_name(client)


# --- reading --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subreddit", "outcome"),
    [
        ("sandbox_private", Outcome.PRIVATE),
        ("sandbox_closed", Outcome.BANNED),
        ("sandbox_nowhere", Outcome.MISSING),
        ("sandbox_members", Outcome.FORBIDDEN),
    ],
)
def test_a_subreddit_that_cannot_be_used_is_an_outcome(box: Box, subreddit: str, outcome: Outcome) -> None:
    assert reddit.list_submissions(connect(box.url), subreddit, "rising", 5) == (outcome, [])


def test_listing(box: Box) -> None:
    expected = [row["name"] for row in box.store.submissions("sandbox_home")][:3]
    assert reddit.list_submissions(connect(box.url), "sandbox_home", "new", 3) == (Outcome.READ, expected)


def test_a_thread_with_its_depths(box: Box) -> None:
    name = first_comment(box, "sandbox_books", "What did you finish")
    thread_id = box.store.comment(name)["link_id"]  # type: ignore[index]
    outcome, thread = reddit.read_thread(connect(box.url), thread_id, 32)
    assert outcome is Outcome.READ and thread is not None
    assert (thread.title, thread.subreddit, thread.over_18, thread.locked) == (
        "What did you finish lately? One line each!",
        "sandbox_books",
        False,
        False,
    )
    stored = {row["name"]: row for row in box.store.comments_of(thread_id)}
    assert {c.comment_id for c in thread.comments} == set(stored) and thread.behind_more == []
    assert {(c.comment_id, c.body, c.author, c.karma, c.created_utc) for c in thread.comments} == {
        (row["name"], row["body"], row["author"], row["karma"], row["created_utc"]) for row in stored.values()
    }
    # 30 single comments and a chain of 14, which needs «continue this thread» twice
    assert sorted(c.depth for c in thread.comments) == [0] * 31 + list(range(1, 14))
    depths = {c.comment_id: c.depth for c in thread.comments}
    assert all(depths[c.parent_id] == c.depth - 1 for c in thread.comments if c.depth)


def test_comments_that_were_not_loaded_are_listed(box: Box) -> None:
    name = first_comment(box, "sandbox_books", "What did you finish")
    thread_id = box.store.comment(name)["link_id"]  # type: ignore[index]
    _, thread = reddit.read_thread(connect(box.url), thread_id, 0)
    assert thread is not None
    shown = [row["name"] for row in box.store.comments_of(thread_id) if row["parent_id"] == thread_id]
    assert [c.comment_id for c in thread.comments] == shown[:25]
    assert thread.behind_more == shown[25:]


def test_a_missing_thread(box: Box) -> None:
    assert reddit.read_thread(connect(box.url), "t3_zzzzzz", 4) == (Outcome.MISSING, None)


def test_reading_waits_as_long_as_reddit_requests(no_waiting: list[float]) -> None:
    with scripted(me=[(429, {"Retry-After": "7"}, ""), ME]) as (server, client):
        assert reddit.account_name(client) == "sandbox_reply_bot"
        assert no_waiting == [7.0]
        assert server.asked.count(("GET", "/api/v1/me")) == 2


def test_reading_gives_up_after_four_attempts(no_waiting: list[float]) -> None:
    with scripted(me=[(429, {"Retry-After": "9999"}, "")]) as (server, client):
        with pytest.raises(UserError, match="rate_limited"):
            reddit.account_name(client)
        assert no_waiting == [calls.LONGEST_WAIT_SECONDS] * 3
        assert server.asked.count(("GET", "/api/v1/me")) == 4


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((503, {}, ""), "status 503"),
        ((200, {}, "<html>"), "not JSON"),
        (None, "can't be reached"),
        ((401, {}, ""), "wrong account or client"),
        ((401, {"WWW-Authenticate": 'Bearer realm="reddit", error="invalid_token"'}, ""), "wrong account or client"),
        ((302, {}, ""), "missing"),
    ],
)
def test_a_broken_server_is_a_one_line_error(answer: Answer, says: str, no_waiting: list[float]) -> None:
    with scripted(me=[answer]) as (_, client), pytest.raises(UserError, match=says):
        reddit.account_name(client)


def test_a_broken_response_to_a_token_request_is_a_one_line_error() -> None:
    with scripted(me=[ME]) as (server, client):
        server.answers["POST", "/api/v1/access_token"] = [(200, {}, "<html>")]
        with pytest.raises(UserError, match="not JSON"):
            reddit.account_name(client)


# --- posting --------------------------------------------------------------------------------------------------------------------


def test_a_reply(box: Box) -> None:
    parent = first_comment(box, "sandbox_college", "Is a B+")
    answer = reddit.reply(connect(box.url), parent, "One grade says little.")
    stored = box.store.comment(answer.reply_id)
    assert answer.outcome is Outcome.POSTED and stored is not None
    assert (stored["body"], stored["parent_id"], stored["author"]) == ("One grade says little.", parent, sandbox.USERNAME)


@pytest.mark.parametrize(
    ("subreddit", "title", "text", "outcome"),
    [
        ("sandbox_books", "Spoilers", "hello", Outcome.LOCKED),
        ("sandbox_books", "Your favourite", "hello", Outcome.TOO_OLD),
        ("sandbox_members", "Meeting", "hello", Outcome.FORBIDDEN),
        ("sandbox_college", "Which laptop", "x" * 10_001, Outcome.TOO_LONG),
        ("sandbox_college", "Which laptop", " ", Outcome.NO_TEXT),
    ],
)
def test_a_refused_reply_is_an_outcome(box: Box, subreddit: str, title: str, text: str, outcome: Outcome) -> None:
    answer = reddit.reply(connect(box.url), first_comment(box, subreddit, title), text)
    assert (answer.outcome, answer.reply_id, answer.wait_seconds) == (outcome, "", None) and answer.detail
    assert box.store.comments_by(sandbox.USERNAME) == []


def refusal(name: str, message: str = "because") -> Whole:
    return 200, {}, {"json": {"errors": [[name, message, "field"]]}}


ACCEPTED = {"json": {"errors": [], "data": {"things": []}}}


@pytest.mark.parametrize(
    ("answer", "outcome", "wait_seconds"),
    [
        *[((status, {}, ""), Outcome.UNKNOWN, None) for status in (401, 408, 409, 500, 502, 503, 504, 520, 522)],
        *[((status, {}, ""), Outcome.REJECTED, None) for status in (400, 413, 414)],
        (None, Outcome.UNKNOWN, None),
        ((200, {"Content-Length": "500"}, "{"), Outcome.UNKNOWN, None),
        ((200, {}, "<html>oops</html>"), Outcome.UNKNOWN, None),
        ((200, {}, [1]), Outcome.UNKNOWN, None),
        ((200, {}, {"json": {"errors": [], "data": {"things": [{"odd": 1}]}}}), Outcome.UNKNOWN, None),
        ((302, {}, ""), Outcome.UNKNOWN, None),
        ((403, {"WWW-Authenticate": 'Bearer error="something_new"'}, ""), Outcome.BLOCKED, None),
        ((429, {"Retry-After": "3"}, ""), Outcome.RATE_LIMITED, 3),
        ((429, {}, ""), Outcome.RATE_LIMITED, 600),
        ((429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, ""), Outcome.RATE_LIMITED, 600),
        ((403, {}, "not JSON"), Outcome.BLOCKED, None),
        ((403, {}, {"message": "Forbidden", "error": 403}), Outcome.FORBIDDEN, None),
        ((403, {}, {"reason": "private"}), Outcome.PRIVATE, None),
        ((403, {"WWW-Authenticate": 'Bearer realm="reddit", error="insufficient_scope"'}, ""), Outcome.NO_SCOPE, None),
        ((404, {}, {}), Outcome.MISSING, None),
        (refusal("DELETED_COMMENT"), Outcome.DELETED, None),
        (refusal("RATELIMIT", "Take a break for 9 minutes before trying again."), Outcome.RATE_LIMITED, 540),
        (refusal("RATELIMIT", "Take a break for 2 seconds before trying again."), Outcome.RATE_LIMITED, 2),
        (refusal("RATELIMIT", "Take a break for 500 milliseconds before trying again."), Outcome.RATE_LIMITED, 1),
        (refusal("RATELIMIT", "Take a break for 1m 30s before trying again."), Outcome.RATE_LIMITED, 90),
        (refusal("SOMETHING_NEW"), Outcome.REJECTED, None),
        ((200, {}, ACCEPTED), Outcome.POSTED, None),
        ((200, {"x-ratelimit-remaining": "9.0", "x-ratelimit-used": "1", "x-ratelimit-reset": "598.0"}, ACCEPTED), Outcome.POSTED, None),
        ((200, {"Date": "yesterday"}, ACCEPTED), Outcome.POSTED, None),
    ],
)
def test_a_post_is_sent_exactly_once(answer: Answer, outcome: Outcome, wait_seconds: int | None, no_waiting: list[float]) -> None:
    with scripted(comment=[answer], me=[ME]) as (server, client):
        reddit.account_name(client)
        got = reddit.reply(client, "t1_abc", "hello")
        assert (got.outcome, got.reply_id, got.wait_seconds) == (outcome, "", wait_seconds)
        assert server.asked.count(("POST", "/api/comment")) == 1 and no_waiting == []
        assert reddit.account_name(client) == "sandbox_reply_bot"  # the client still works


def test_a_post_that_times_out_has_an_unknown_outcome(box: Box) -> None:
    parent = first_comment(box, "sandbox_college", "Is a B+")
    client = reddit.connect(RedditSettings(url=box.url, timeout_seconds=0.3))
    reddit.account_name(client)
    box.store.add_fault("timeout", seconds=3)
    began = time.monotonic()
    assert reddit.reply(client, parent, "hello").outcome is Outcome.UNKNOWN
    assert 0.2 < time.monotonic() - began < 2


def test_a_refused_connection_means_that_nothing_was_sent() -> None:
    with scripted(me=[ME]) as (_, client):
        reddit.account_name(client)
    answer = reddit.reply(client, "t1_abc", "hello")
    assert answer.outcome is Outcome.NOT_SENT and "refused" in answer.detail


def test_after_a_failed_login_a_reply_is_not_in_doubt(no_waiting: list[float]) -> None:
    """The first call requests the token; if that fails, the reply was not sent."""
    with scripted(comment=[(200, {}, ACCEPTED)]) as (server, client):
        for broken in (None, (503, {}, ""), (429, {}, ""), (200, {}, {"error": "invalid_grant"})):
            server.answers["POST", "/api/v1/access_token"] = [broken]
            assert reddit.reply(client, "t1_abc", "hello").outcome is Outcome.NOT_SENT
        assert ("POST", "/api/comment") not in server.asked


def test_the_time_is_that_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    date = {"Date": "Wed, 21 Oct 2015 07:28:00 GMT"}
    with scripted(me=[(200, date, ME[2])]) as (server, client), time_machine.travel(1_445_412_480 - 86_400, tick=True):
        monkeypatch.setattr(server.RequestHandlerClass, "date_time_string", lambda *_: date["Date"])
        with pytest.raises(UserError, match="no response has a Date"):
            reddit.server_utc(client)
        reddit.account_name(client)
        assert 0 <= reddit.server_utc(client) - 1_445_412_480 < 60


def test_the_client_waits_for_the_rate_limit_before_the_post(no_waiting: list[float]) -> None:
    used_up = {"x-ratelimit-remaining": "0.0", "x-ratelimit-used": "100", "x-ratelimit-reset": "70"}
    with scripted(me=[(200, used_up, ME[2])]) as (_, client):
        reddit.account_name(client)
        reddit.wait_for_turn(client)
        assert [round(seconds) for seconds in no_waiting] == [70]


# --- looking for a reply --------------------------------------------------------------------------------------------------------


def test_an_own_reply_is_found(box: Box) -> None:
    parent = first_comment(box, "sandbox_books", "What did you finish")
    client = connect(box.url)
    us = reddit.account_name(client)
    assert reddit.find_reply(client, us, parent) == (Outcome.READ, "")
    box.say(parent, "Somebody else's.")
    assert reddit.find_reply(client, us, parent) == (Outcome.READ, "")
    ours = reddit.reply(client, parent, "Ours.").reply_id
    for _ in range(30):
        box.say(parent, "So many that one answer can't hold them.")
    box.say(ours, "An answer to ours.", author=sandbox.USERNAME)
    assert reddit.find_reply(client, us.upper(), parent) == (Outcome.READ, ours)


@pytest.mark.parametrize(("stale", "result"), [(["/user/"], True), (["/comments/"], True), (["/user/", "/comments/"], False)])
def test_a_reply_is_found_if_one_of_two_listings_is_stale(box: Box, stale: list[str], result: bool) -> None:
    parent = first_comment(box, "sandbox_home", "My bread")
    client = connect(box.url)
    us = reddit.account_name(client)
    for path in stale:
        box.store.add_fault("stale", path)
    ours = reddit.reply(client, parent, "Ours.").reply_id
    assert reddit.find_reply(client, us, parent) == (Outcome.READ, ours if result else "")


def test_an_unreadable_listing_does_not_mean_that_there_is_no_reply(box: Box) -> None:
    parent = first_comment(box, "sandbox_home", "My bread")
    client = connect(box.url)
    assert reddit.find_reply(client, sandbox.USERNAME, "t1_zzzzzz") == (Outcome.MISSING, "")
    box.store.add_fault("403", "/user/")
    with pytest.raises(UserError, match="network refuses"):
        reddit.find_reply(client, sandbox.USERNAME, parent)


def test_a_suspended_account(box: Box) -> None:
    assert not reddit.is_suspended(connect(box.url))
    box.store.add_fault("suspended", "/api/v1/me")
    assert reddit.is_suspended(connect(box.url))


def test_prawcore_alone_would_send_a_post_three_times(no_waiting: list[float]) -> None:
    """The reason for `_Requestor`. If this test fails, prawcore has changed, and `_Requestor` may no longer be needed."""
    with scripted(comment=[(503, {}, "")]) as (server, client):
        url = client.config.oauth_url
        account: dict[str, Any] = {"client_id": "a", "client_secret": "b", "username": "c", "password": "d"}
        plain = praw.Reddit(user_agent="linux:tests:v0", reddit_url=url, oauth_url=url, check_for_updates=False, **account)
        with pytest.raises(prawcore.ServerError):
            plain.comment("abc").reply("hello")
        assert server.asked.count(("POST", "/api/comment")) == 3
