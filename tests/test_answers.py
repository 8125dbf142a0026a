"""Unusual responses of Reddit: none causes a traceback, and each has the right consequence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bot import config, names, sandbox
from bot.cli import NoPermission, Unreachable, WrongSettings
from bot.config import FetchSettings, RedditSettings, Settings
from bot.online import fetch
from bot.reddit import client as reddit
from bot.reddit.outcomes import Outcome, answer_of, wait_asked
from bot.reddit.requestor import Client
from bot.sandbox import server
from bot.sandbox.server import Box
from tests.growth import LINEAR, growth
from tests.posting import no_sleep
from tests.test_reddit import ME, connect, first_comment, refusal, scripted


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    no_sleep(monkeypatch)
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        yield running


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    no_sleep(monkeypatch)


BODIES: dict[str, Any] = {
    "HTML": "<html>no</html>",
    "plain": {"message": "Bad Request", "error": 400},
    "fields": {"fields": ["id"], "explanation": "odd", "message": "Bad Request", "reason": "BAD_ID"},
    "no reason": {"message": "Bad Request"},
    "list": [1, 2],
    "null": "null",
    "empty": "",
    "cut": '{"message"',
    "errors": {"json": {"errors": [["ODD_NAME", "words", "id"]]}},
}


@pytest.mark.parametrize("status", [200, 400, 413, 418])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_an_unusable_response_is_a_one_line_error(body: object, status: int) -> None:
    with scripted(me=[(status, {}, body)]) as (_, client), pytest.raises(Unreachable) as error:
        reddit.account_name(client)
    assert "\n" not in str(error.value) and "try again later" in str(error.value)


@pytest.mark.parametrize("body", ["<html>blocked</html>", "", "blocked", {"message": "Forbidden", "error": 403}])
def test_a_403_outside_a_subreddit_means_a_blocked_address(body: object) -> None:
    with scripted(me=[(403, {}, body)]) as (_, client), pytest.raises(Unreachable, match="network refuses this address"):
        reddit.account_name(client)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_a_400_response_to_a_post_is_a_refusal(body: object) -> None:
    with scripted(comment=[(400, {}, body)], me=[ME]) as (server_, client):
        reddit.account_name(client)
        assert reddit.reply(client, "t1_abc", "hello").outcome is Outcome.REJECTED
        assert server_.asked.count(("POST", "/api/comment")) == 1


def test_a_missing_scope_is_named() -> None:
    scope = {"WWW-Authenticate": 'Bearer realm="reddit", error="insufficient_scope"'}
    forbidden = {"message": "Forbidden", "error": 403}
    with scripted(me=[(403, scope, forbidden)]) as (_, client), pytest.raises(NoPermission, match="`identity`"):
        reddit.account_name(client)
    with scripted(me=[ME], comment=[(403, scope, forbidden)]) as (_, client):
        reddit.account_name(client)
        answer = reddit.reply(client, "t1_abc", "hello")
        assert answer.outcome is Outcome.NO_SCOPE and "`submit`" in answer.detail


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        ((200, {}, {"error": "invalid_grant"}), NoPermission, "two-factor"),
        ((401, {}, {"message": "Unauthorized", "error": 401}), NoPermission, "praw_client_secret"),
        ((403, {}, "<html>"), Unreachable, "network refuses"),
        ((429, {}, "<html>"), Unreachable, "status 429"),
        ((404, {}, {}), Unreachable, "status 404"),
        ((200, {}, {"message": "try later"}), Unreachable, "incomplete answer"),
        ((200, {}, {"access_token": "t", "expires_in": 3600}), Unreachable, "incomplete answer"),
        ((200, {}, []), Unreachable, "incomplete answer"),
    ],
)
def test_logins_that_fail(answer: Any, kind: type[Exception], says: str) -> None:
    with scripted(me=[ME]) as (server_, client):
        server_.answers["POST", "/api/v1/access_token"] = [answer]
        with pytest.raises(kind, match=says):
            reddit.account_name(client)


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, {"message": "Bad Request", "error": 400}), (200, {"error": "invalid_grant"}), (401, {"message": "Unauthorized", "error": 401})],
)
def test_a_withdrawn_refresh_token(status: int, body: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the bot starts, and when the account's owner withdraws it later, so that no new access token is given."""
    for name, value in {"client_id": "an-id", "client_secret": "a_secret", "refresh_token": "s3cret-refresh.token"}.items():
        monkeypatch.setenv(f"praw_{name}", value)
    for name in ("username", "password"):
        monkeypatch.delenv(f"praw_{name}", raising=False)
    with scripted(me=[ME]) as (server_, _):
        server_.answers["GET", "/api/info"] = [(401, {}, {"message": "Unauthorized", "error": 401})]  # the access token is no longer valid
        for constant in ("REDDIT_URL", "OAUTH_URL"):
            monkeypatch.setattr(reddit, constant, f"http://127.0.0.1:{server_.server_port}")
        token = server_.answers["POST", "/api/v1/access_token"][0]
        for answers, works_at_first in ([(status, {}, body)], False), ([token, (status, {}, body)], True):
            server_.answers["POST", "/api/v1/access_token"] = answers
            client = reddit.connect(RedditSettings(user_agent="linux:reply-bot:0.1 (by /u/somebody)"))
            if works_at_first:
                assert reddit.account_name(client) == "sandbox_reply_bot"
            with pytest.raises(NoPermission, match="praw_refresh_token is refused .*: it was revoked .*; create a new one") as error:
                reddit.standings(client, ["t1_a"]) if works_at_first else reddit.account_name(client)
            assert error.value.status == 77 and "\n" not in str(error.value) and "s3cret" not in str(error.value)
            assert reddit.reply(client, "t1_abc", "hello").outcome is Outcome.NOT_SENT
        assert ("POST", "/api/comment") not in server_.asked


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("client_id", "\u201cid\u201d", "praw_client_id: .*LEFT DOUBLE QUOTATION MARK"),
        ("client_secret", "secret\n", "praw_client_secret: .*U\\+000A"),
        ("client_id", "'id'", "praw_client_id: .*APOSTROPHE"),
        ("username", "u/some-body", "praw_username: begins with u/"),
        ("password", "pw:123456", "praw_password: .*two-factor"),
        ("password", "\u201cpw\u201d", "praw_password: .*quotation marks"),
        ("password", "pw ", "praw_password: .*space"),
    ],
)
def test_malformed_credentials(name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = {"client_id": "an-id", "client_secret": "a_secret", "username": "some-body", "password": "p\u00e4ss word:12"}
    for each, kept in (good | {name: value}).items():
        monkeypatch.setenv(f"praw_{each}", kept)
    settings = RedditSettings(user_agent="linux:reply-bot:0.1 (by /u/somebody)")
    with pytest.raises(NoPermission, match=says) as error:
        reddit.connect(settings)
    assert value not in str(error.value)
    monkeypatch.setenv(f"praw_{name}", good[name])
    assert reddit.connect(settings).config.client_id == "an-id"


# --- refusals by name -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "outcome", "wait_seconds"),
    [
        ([("BANNED_FROM_SUBREDDIT", "")], Outcome.BANNED_THERE, None),
        ([("IN_TIMEOUT", "try again in 3 days")], Outcome.ACCOUNT_REFUSED, 259_200),
        ([("VERIFIED_USER_REQUIRED", "set an address")], Outcome.ACCOUNT_REFUSED, None),
        ([("SUBREDDIT_RATELIMIT", "try again in 9 minutes")], Outcome.SUBREDDIT_RATE_LIMITED, 540),
        ([("SUBREDDIT_OUTBOUND_LINKING", "")], Outcome.LINKS, None),
        ([("USER_BLOCKED", "")], Outcome.USER_BLOCKED, None),
        ([("SOMETHING_IS_BROKEN", "")], Outcome.UNKNOWN, None),
        ([("A_NEW_NAME", "Something went wrong.")], Outcome.UNKNOWN, None),
        ([("A_NEW_NAME", "words")], Outcome.REJECTED, None),
        ([("A_NEW_NAME", "slow down, try again in 3 minutes")], Outcome.RATE_LIMITED, 180),
        ([("USER_SUSPENDED", "")], Outcome.ACCOUNT_REFUSED, None),
        ([("BANNED_BY_MODERATORS", ""), ("A_NEW_NAME", "")], Outcome.BANNED_THERE, None),
        ([("COMMENT_RATE_LIMIT_EXCEEDED", "in 2 hours")], Outcome.RATE_LIMITED, 7200),
        ([("CROSS_SUBREDDIT_RATELIMIT", "")], Outcome.SUBREDDIT_RATE_LIMITED, 600),
        ([("A_NEW_NAME", "Something broke"), ("THREAD_LOCKED", "")], Outcome.UNKNOWN, None),
        ([("A_NEW_NAME", ""), ("THREAD_LOCKED", "")], Outcome.LOCKED, None),
        ([("RATELIMIT", ""), ("BAD_CAPTCHA", "")], Outcome.RATE_LIMITED, 600),
        ([("RATELIMIT", "in 9 minutes"), ("BANNED_FROM_SUBREDDIT", "")], Outcome.BANNED_THERE, 540),
        ([("THREAD_LOCKED", ""), ("SOMETHING_IS_BROKEN", "")], Outcome.UNKNOWN, None),
    ],
)
def test_all_errors_in_a_response_are_read(errors: list[tuple[str, str]], outcome: Outcome, wait_seconds: int | None) -> None:
    for order in (errors, errors[::-1]):
        answer = answer_of(order)
        assert (answer.outcome, answer.wait_seconds) == (outcome, wait_seconds)
        assert all(name in answer.detail for name, _ in errors)


def test_an_error_without_a_message() -> None:
    with scripted(comment=[refusal("RATELIMIT", None)], me=[ME]) as (_, client):  # type: ignore[arg-type]
        reddit.account_name(client)
        assert reddit.reply(client, "t1_abc", "hello").wait_seconds == 600


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("2 days", 172_800),
        ("1 day 3 hours", 97_200),
        ("in 9 Minuten", 540),
        ("dans 2 heures", 7200),
        ("en 3 minutos", 180),
        ("5 things", 600),
    ],
)
def test_waits_in_days_and_other_languages(message: str, seconds: int) -> None:
    assert wait_asked(message) == seconds


@pytest.mark.parametrize("piece", ["1", "1.", "9 ", "9 m"])
def test_the_wait_is_read_in_linear_time(piece: str) -> None:
    assert growth(wait_asked, piece) < LINEAR


# --- reading ------------------------------------------------------------------------------------------------------------------------


def thread_of(box: Box, title: str) -> str:
    row = box.store.comment(first_comment(box, "sandbox_books", title))
    assert row is not None
    return str(row["link_id"])


@pytest.mark.parametrize("kind", ["403", "html403", "413", "500", "400_html", "400_fields", "no_data", "garbage", "cut", "reset"])
@pytest.mark.parametrize("where", ["more", "thread"])
def test_an_unreadable_thread_does_not_affect_the_others(box: Box, kind: str, where: str) -> None:
    bad = thread_of(box, "What did you finish")
    if where == "more":
        box.store.add_fault(kind, "/api/morechildren", times=99, form=bad)
    else:
        box.store.add_fault(kind, f"/comments/{bad[3:]}", times=99)
    threads, unread, answers = fetch.read_threads(
        connect(box.url), FetchSettings(subreddits=["sandbox_books"], submissions=6, listing="rising")
    )
    assert set(answers.values()) == {Outcome.READ} and len(threads) + len(unread) == 6
    if where == "thread":
        assert [(row.comment_id, row.reason) for row in unread] == [(bad, "unreadable_thread")]
    else:
        thread = next(each for each in threads if each.thread_id == bad)
        names_there = {comment.comment_id for comment in thread.comments}
        assert len(names_there) == 25 and thread.behind_more and names_there.isdisjoint(thread.behind_more)


def test_it_is_an_error_if_nothing_can_be_read(box: Box) -> None:
    box.store.add_fault("html403", "/comments/", times=99)
    rules = FetchSettings(subreddits=["sandbox_books", "sandbox_home"], submissions=5)
    with pytest.raises(Unreachable, match="network refuses"):
        fetch.read_threads(connect(box.url), rules)
    box.store.clear_faults()
    box.store.add_fault("400_html", "/r/sandbox_books/", times=99)
    threads, _, answers = fetch.read_threads(connect(box.url), rules)
    assert answers == {"sandbox_books": Outcome.UNREADABLE, "sandbox_home": Outcome.READ} and threads


# --- responses written out ------------------------------------------------------------------------------------------------------------


def listing(*children: Any, after: str | None = None) -> dict[str, Any]:
    return {"kind": "Listing", "data": {"children": list(children), "after": after, "before": None}}


def comment(name: str, karma: int = 1, parent_id: str = "t3_x", **other: Any) -> dict[str, Any]:
    data = {"id": name, "name": f"t1_{name}", "link_id": "t3_x", "parent_id": parent_id, "author": "reader_1", "body": "text"}
    data |= {"score": karma, "created_utc": 1.0, "permalink": "/x/", "replies": "", "subreddit": "books"}
    return {"kind": "t1", "data": data | other}


def without(thing: dict[str, Any], *fields: str) -> dict[str, Any]:
    return {"kind": thing["kind"], "data": {name: value for name, value in thing["data"].items() if name not in fields}}


def message(name: str, **other: Any) -> dict[str, Any]:
    data = {"id": name, "name": f"t4_{name}", "author": "reader_1", "body": "stop", "subject": "hi", "created_utc": 9.0, "dest": "us"}
    return {"kind": "t4", "data": data | {"was_comment": False, "parent_id": None, "replies": "", "subreddit": None} | other}


SUBMISSION = {"id": "x", "name": "t3_x", "subreddit": "books", "title": "t", "over_18": False, "locked": False, "archived": False}
LISTED = {"kind": "t3", "data": SUBMISSION | {"num_comments": 2, "author": "reader_2", "permalink": "/x/", "selftext": ""}}
ABOUT: Any = (200, {}, {"kind": "t5", "data": {"display_name": "books", "over18": False}})

# Calls other than `me` and the POST of a reply -> the path of the request that gets the unusable response, and the call itself. The calls
# with False are about something that has another source, so an unusable response is an answer.
CALLS: dict[str, tuple[tuple[str, str], Callable[[Client], object]]] = {
    "info": (("GET", "/api/info"), lambda client: reddit.standings(client, ["t1_a"])),
    "inbox": (("GET", "/message/inbox"), lambda client: reddit.letters(client, 0)),
    "own comments": (("GET", "/user/somebody/comments"), lambda client: reddit.own_comments(client, "somebody", 5)),
    "find a reply": (("GET", "/user/somebody/comments"), lambda client: reddit.find_reply(client, "somebody", "t1_a")),
    "about a subreddit": (("GET", "/r/books/about"), lambda client: reddit.list_submissions(client, "books", "new", 5)),
    "listing": (("GET", "/r/books/new"), lambda client: reddit.list_submissions(client, "books", "new", 5)),
    "thread": (("GET", "/comments/x"), lambda client: reddit.read_thread(client, "t3_x", 4)),
    "count replies": (("GET", "/comments/x/_/a"), lambda client: reddit.count_replies(client, "t1_a")),
    "about a user": (("GET", "/user/somebody/about"), lambda client: reddit.is_shadowbanned(client, "somebody")),
    "read_message": (("POST", "/api/read_message"), lambda client: reddit.mark_read(client, "t4_a")),
    "delete": (("POST", "/api/del"), lambda client: reddit.delete(client, "t1_a")),
}
NOT_FATAL = {"about a user": {False}, "read_message": {False, True}, "delete": {Outcome.UNREADABLE, Outcome.DELETED}}


@pytest.mark.parametrize("name", CALLS)
def test_an_unusable_response_is_never_a_traceback_or_an_empty_result(name: str) -> None:
    path, call = CALLS[name]
    shapes = {
        **BODIES,
        "text": '"text"',
        "number": "7",
        "no children": {"kind": "Listing", "data": {}},
        "null children": listing() | {"data": {"children": None}},
    }
    with scripted(me=[ME]) as (server_, client):
        server_.answers |= {
            ("GET", "/r/books/about"): [ABOUT],
            ("GET", "/r/books/new"): [(200, {}, listing())],
            ("GET", "/user/somebody/comments"): [(200, {}, listing())],
            ("GET", "/api/info"): [(200, {}, listing(comment("a", link_id="t3_x")))],
        }
        for status in (200, 400, 418):
            for shape, body in shapes.items():
                server_.answers[path] = [(status, {}, body)]
                if name in NOT_FATAL:
                    assert call(client) in NOT_FATAL[name], (status, shape)
                    continue
                with pytest.raises(Unreachable, match="try again later") as error:
                    call(client)
                    pytest.fail(f"no error: {status}, {shape}")
                assert "\n" not in str(error.value), (status, shape)


BROKEN_ITEMS = {
    "a field is missing": without(comment("z", was_comment=True), "body"),
    "the author is missing": without(comment("z", was_comment=True), "author"),
    "the time is text": comment("z", was_comment=True, created_utc="yesterday", score="many"),
    "the time is null": comment("z", was_comment=True, created_utc=None, score=None),
    "no fields": {"kind": "t1", "data": {}},
    "no fields of a message": {"kind": "t4", "data": {}},
    "null data": {"kind": "t1", "data": None},
    "null": None,
    "unknown kind": {"kind": "t9", "data": {"id": "z"}},
}


@pytest.mark.parametrize("field", [(200, {}, listing()), (403, {}, "<html>"), (500, {}, "")])
@pytest.mark.parametrize("broken", BROKEN_ITEMS)
def test_an_unusable_item_affects_no_other(broken: str, field: Any, no_waiting: None) -> None:
    """field: the response to PRAW's request for the item, to get a field that is missing."""
    item = BROKEN_ITEMS[broken]
    with scripted(me=[ME]) as (server_, client):
        server_.answers |= {
            ("GET", "/message/inbox"): [(200, {}, listing(message("a"), item, message("b", body="thanks", created_utc=5.0)))],
            ("GET", "/user/somebody/comments"): [(200, {}, listing(comment("a"), item, comment("b", parent_id="t1_p", body="[removed]")))],
            ("GET", "/comments/x"): [(200, {}, [listing(LISTED), listing(comment("a"), item or comment("c"), comment("b"))])],
            ("GET", "/api/info"): [field],
        }
        assert [(each.name, each.body) for each in reddit.letters(client, 0)] == [("t4_b", "thanks"), ("t4_a", "stop")]
        assert [each.name for each in reddit.own_comments(client, "somebody", 5)] == ["t1_a", "t1_b"]
        assert reddit.find_reply(client, "somebody", "t1_p") == (Outcome.READ, "t1_b")
        _, thread = reddit.read_thread(client, "t3_x", 4)
        assert thread is not None and {"t1_a", "t1_b"} <= {each.comment_id for each in thread.comments}
        server_.answers["GET", "/api/info"] = [(200, {}, listing(comment("a"), item, comment("b"))), field]
        assert list(reddit.standings(client, ["t1_a", "t1_z", "t1_b"])) == ["t1_a", "t1_b"]


def test_a_comment_above_that_is_unusable() -> None:
    """The comment is not in the tree, so it and those above it are requested by name."""
    with scripted(me=[ME]) as (server_, client):
        server_.answers["GET", "/comments/x"] = [(200, {}, [listing(LISTED), listing()])]
        below, above = comment("b", parent_id="t1_a"), comment("a")
        server_.answers["GET", "/api/info"] = [(200, {}, listing(below)), (200, {}, listing(above))]
        _, thread = reddit.read_comment(client, "t3_x", "t1_b", 0)
        assert thread is not None and [(each.comment_id, each.depth) for each in thread.comments] == [("t1_a", 0), ("t1_b", 1)]
        for bad in (without(above, "link_id"), without(above, "score", "body"), without(above, "parent_id")):
            server_.answers["GET", "/api/info"] = [(200, {}, listing(below)), (200, {}, listing(bad))]
            assert reddit.read_comment(client, "t3_x", "t1_b", 0) == (Outcome.MISSING, None)


def test_an_item_on_two_pages_is_one_item() -> None:
    """Reddit's listings shift while they are read, so the second page repeats the end of the first."""
    with scripted(me=[ME]) as (server_, client):
        first, second = message("a", created_utc=9.0), message("b", created_utc=8.0)
        server_.answers |= {
            ("GET", "/message/inbox"): [
                (200, {}, listing(first, second, after="t4_b")),
                (200, {}, listing(second, message("c", created_utc=7.0))),
            ],
            ("GET", "/user/somebody/comments"): [
                (200, {}, listing(comment("a"), comment("b"), after="t1_b")),
                (200, {}, listing(comment("b"), comment("c"))),
            ],
            ("GET", "/r/books/about"): [ABOUT],
            ("GET", "/r/books/new"): [
                (200, {}, listing(LISTED, {"kind": "t3", "data": LISTED["data"] | {"id": "y", "name": "t3_y"}}, after="t3_y")),
                (200, {}, listing(LISTED)),
            ],
        }
        assert [each.name for each in reddit.letters(client, 0)] == ["t4_c", "t4_b", "t4_a"]
        assert [each.name for each in reddit.own_comments(client, "somebody", 10)] == ["t1_a", "t1_b", "t1_c"]
        assert reddit.list_submissions(client, "books", "new", 10) == (Outcome.READ, ["t3_x", "t3_y"])


def test_more_comments_that_repeat_one() -> None:
    """The second of three comments behind «more» is already in the tree: each is in exactly one of comments.csv and skipped.csv."""
    more = {"kind": "more", "data": {"count": 3, "name": "t1_b", "id": "b", "parent_id": "t3_x", "depth": 0, "children": ["b", "a", "c"]}}
    things = [comment("b"), comment("a", 9), comment("c")]
    with scripted(me=[ME]) as (server_, client):
        server_.answers["GET", "/comments/x"] = [(200, {}, [listing(LISTED), listing(comment("a", 5), more)])]
        server_.answers["POST", "/api/morechildren"] = [(200, {}, {"json": {"errors": [], "data": {"things": things}}})]
        _, thread = reddit.read_thread(client, "t3_x", 4)
        server_.answers["GET", "/api/info"] = [(200, {}, listing(comment("a")))]
        server_.answers["GET", "/comments/x/_/a"] = [
            (200, {}, [listing(LISTED), listing(comment("a", replies=listing(*[comment("b", parent_id="t1_a")] * 2)))])
        ]
        assert reddit.count_replies(client, "t1_a") == 1
    assert thread is not None and [(each.comment_id, each.karma) for each in thread.comments][:2] == [("t1_a", 5), ("t1_b", 1)]
    taken, context, skipped = fetch.take_up([thread], Settings(fetch={"maximum_age_hours": 1e9}), 2.0)
    assert sorted(each.comment_id for each in [*taken, *skipped]) == ["t1_a", "t1_b", "t1_c"]
    assert not {each.comment_id for each in context} & {each.comment_id for each in taken}


def test_items_that_are_listed_twice_are_read_once() -> None:
    bare = comment("b", 1)
    del bare["data"]["score"], bare["data"]["permalink"]
    with scripted(me=[ME]) as (server_, client):
        server_.answers["GET", "/comments/x"] = [(200, {}, [listing(LISTED), listing(comment("a", 5), comment("a", 9), bare)])]
        server_.answers["GET", "/api/info"] = [(200, {}, listing())]
        server_.answers["GET", "/r/books/about"] = [(200, {}, {"kind": "t5", "data": {"display_name": "books", "over18": False}})]
        server_.answers["GET", "/r/books/new"] = [(200, {}, listing(LISTED, LISTED))]
        assert reddit.list_submissions(client, "books", "new", 10) == (Outcome.READ, ["t3_x"])
        _, thread = reddit.read_thread(client, "t3_x", 4)
    assert thread is not None
    assert [(each.comment_id, each.karma) for each in thread.comments] == [("t1_a", 5)]
    assert thread.behind_more == ["t1_b"]  # fields are missing, so only its name is known


# --- what other users see -------------------------------------------------------------------------------------------------------------


def test_a_removal_is_detected_with_a_second_client(box: Box) -> None:
    client = connect(box.url)
    posted = [reddit.reply(client, first_comment(box, "sandbox_home", title), "Ours.").reply_id for title in ("My bread", "")]
    box.store.hide(posted[0])
    seen = reddit.standings(client, posted)
    assert [seen[name].removed for name in posted] == [True, False] and seen[posted[0]].body == "Ours."
    box.store.hide(posted[0], hidden=False)
    assert reddit.standings(client, posted)[posted[0]].removed is False
    reddit.delete(client, posted[0])
    assert reddit.standings(client, posted)[posted[0]].removed is False  # we deleted it ourselves
    box.store.hide(posted[1])
    other = connect(box.url)
    reddit.account_name(other)
    box.store.add_fault("401", "/api/v1/access_token", times=9)
    assert reddit.standings(other, posted)[posted[1]].removed is None  # unknown without a second client
    assert not other.read_only


def test_a_shadowbanned_account(box: Box) -> None:
    client = connect(box.url)
    assert not reddit.is_shadowbanned(client, sandbox.USERNAME)
    box.store.hide(sandbox.USERNAME)
    assert reddit.is_shadowbanned(client, sandbox.USERNAME) and reddit.account_name(client) == sandbox.USERNAME
    other = connect(box.url)
    box.store.add_fault("html403", "/api/v1/access_token", times=9)
    assert not reddit.is_shadowbanned(other, sandbox.USERNAME)


def test_a_refused_deletion_is_an_outcome(box: Box) -> None:
    client = connect(box.url)
    posted = reddit.reply(client, first_comment(box, "sandbox_home", "My bread"), "Ours.").reply_id
    box.store.add_fault("400_fields", "/api/del")
    assert reddit.delete(client, posted) is Outcome.UNREADABLE
    assert reddit.delete(client, posted) is Outcome.DELETED


# --- names ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written", ["", " ", "all", "r/Popular", "a+b", "two words", "b\u00fccher", "x", "https://example.org/r/books", "u/no"]
)
def test_invalid_subreddit_names(written: str) -> None:
    with pytest.raises(ValueError, match="name"):
        names.subreddit_name(written)


SPELLINGS = {
    "r/Books": "books",
    "/r/books/": "books",
    " Books ": "books",
    "https://www.reddit.com/r/Books/": "books",
    "u_some-body": "u_some-body",
    "u/Some-Body": "u_some-body",
    "https://www.reddit.com/user/some-body": "u_some-body",
}


@pytest.mark.parametrize("written", [*SPELLINGS, "r/all", "a+b", "two words", "", "u/no", "x"])
def test_both_settings_take_the_same_names_and_are_checked_at_start(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = json.dumps([{"subreddit": written, "permitted_by": "u/mod, 2026-11-01"}])
    for variable, value in {"BOT_FETCH__SUBREDDITS": json.dumps([written]), "BOT_SUBMIT__ALLOWED": allowed}.items():
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            if written in SPELLINGS:
                settings = config.load(None)
                assert [*settings.fetch.subreddits, *(each.subreddit for each in settings.submit.allowed)] == [SPELLINGS[written]]
                continue
            with pytest.raises(WrongSettings, match="name") as error:
                config.load(None)
            assert error.value.status == 78 and "\n" not in str(error.value)


def test_two_spellings_of_a_subreddit_are_the_same_subreddit() -> None:
    assert FetchSettings(subreddits=["r/Books", "/r/books/", "u_Some-Body"]).subreddits == ["books", "u_some-body"]
    assert json.loads(FetchSettings(subreddits=["Books "]).model_dump_json())["subreddits"] == ["books"]
