"""The sandbox, accessed with the real PRAW over HTTP."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import praw
import prawcore
import pytest
from praw.exceptions import RedditAPIException
from praw.models import MoreComments

from bot import sandbox
from bot.cli import ROOT, UserError
from bot.sandbox import server
from bot.sandbox.process import sandbox_process
from bot.sandbox.server import Box

EVENING = "What did you finish lately? One line each!"


def client(box: Box, **other: str) -> Any:
    account: dict[str, Any] = {
        "client_id": sandbox.CLIENT_ID,
        "client_secret": sandbox.CLIENT_SECRET,
        "username": sandbox.USERNAME,
        "password": sandbox.PASSWORD,
    }
    return praw.Reddit(
        user_agent="linux:tests:v0 (by /u/nobody)", reddit_url=box.url, oauth_url=box.url, check_for_updates=False, **account | other
    )


def thread_called(box: Box, title: str) -> str:
    """The fullname of the submission whose title starts with `title`."""
    rows = [row for subreddit in box.store.subreddits() for row in box.store.submissions(subreddit["name"])]
    return next(row["name"] for row in rows if row["title"].startswith(title))


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        yield running


def test_log_in(box: Box) -> None:
    me = client(box).user.me()
    assert (me.name, me.is_suspended) == ("sandbox_reply_bot", False)
    with pytest.raises(prawcore.OAuthException, match="invalid_grant"):
        client(box, password="guess").user.me()
    with pytest.raises(prawcore.ResponseException, match="401"):
        client(box, client_secret="guess").user.me()


def test_the_api_requires_a_token(box: Box) -> None:
    for path in ("/api/v1/me", "/r/sandbox_books/hot", "/r/sandbox_books/comments", "/api/info?id=t3_jug5xd", "/message/unread"):
        assert get(box.url + path)[0] == 401, path


def test_responses_close_the_connection_and_have_no_rate_limit_headers(box: Box) -> None:
    with urllib.request.urlopen(box.url) as answer:
        assert answer.headers["Connection"] == "close"
        assert not [name for name in answer.headers if "ratelimit" in name.lower()]
    assert box.url.startswith("http://127.0.0.1:")


def test_order_of_listings(box: Box) -> None:
    books = client(box).subreddit("sandbox_books")
    hot, new, rising = (list(getattr(books, order)(limit=50)) for order in ("hot", "new", "rising"))
    assert [s.score for s in hot] == [460, 212, 140, 96, 88, 75, 12]
    ages = [s.created_utc for s in new]
    assert ages == sorted(ages, reverse=True) and len(ages) == 7
    assert [s.score for s in rising] == [212, 96, 75, 140, 88, 12]  # by karma per hour; the archived one is too old
    assert [s.locked for s in rising] == [False, False, True, False, False, False]
    assert [s.id for s in books.hot(limit=2)] == [s.id for s in hot[:2]]


def test_pages_of_listings(box: Box) -> None:
    reddit = client(box)
    everything = [s.fullname for s in reddit.subreddit("sandbox_books").new(limit=50)]
    paged, after = [], None
    while True:
        page = reddit.get("r/sandbox_books/new", params={"limit": 3} | ({"after": after} if after else {}))
        paged.append([s.fullname for s in page])
        after = page.after
        if after is None:
            break
    assert paged == [everything[:3], everything[3:6], everything[6:]]
    newer = reddit.get("r/sandbox_books/new", params={"limit": 2, "before": everything[3]})
    assert [s.fullname for s in newer] == everything[1:3]


def test_more_nodes_of_both_kinds_lead_to_every_comment(box: Box) -> None:
    reddit = client(box)
    thread = thread_called(box, EVENING)
    submission = reddit.submission(thread[3:])
    cut = [node for node in submission.comments.list() if isinstance(node, MoreComments)]
    assert [node.count > 0 and len(node.children) > 0 for node in cut] == [True]
    submission.comments.replace_more(limit=1)
    assert len(submission.comments.list()) < 44
    whole = reddit.submission(thread[3:])
    assert whole.comments.replace_more(limit=None) == []
    assert len(whole.comments.list()) == whole.num_comments == 44

    deep = thread_called(box, "Do clubs matter?")
    above = deep
    for level in range(9):
        above = box.say(above, f"level {level}")
    chain = reddit.submission(deep[3:])
    ends = [node for node in chain.comments.list() if isinstance(node, MoreComments)]
    assert [(node.count, node.children) for node in ends] == [(0, [])]  # «continue this thread»
    chain.comments.replace_more(limit=None)
    assert sorted(c.body for c in chain.comments.list() if c.body.startswith("level")) == [f"level {level}" for level in range(9)]


@pytest.mark.parametrize("seed", [1, 2])
def test_any_tree_is_read_back_completely(box: Box, seed: int) -> None:
    dice = random.Random(seed)
    thread = thread_called(box, "Do clubs matter?")
    parents = {box.store.comments_of(thread)[0]["name"]: thread}
    for number in range(45):
        # Mostly the latest comments, so that the tree is deep as well as wide.
        parent = dice.choice([thread, *list(parents)[-4:], *parents])
        parents[box.say(parent, f"comment {number}")] = parent
    submission = client(box).submission(thread[3:])
    submission.comments.replace_more(limit=None)
    assert {c.fullname: c.parent_id for c in submission.comments.list()} == parents


def test_a_reply_is_in_all_listings(box: Box) -> None:
    reddit = client(box)
    thread = thread_called(box, "Which laptop")
    parent = box.store.comments_of(thread)[0]["name"]
    text = 'Two lines,\n"quoted" & <b>bold</b> 🙂'
    posted = reddit.comment(parent[3:]).reply(text)
    assert (posted.body, posted.author.name, posted.parent_id) == (text, sandbox.USERNAME, parent)
    assert [c.fullname for c in reddit.user.me().comments.new(limit=5)] == [posted.fullname]
    assert next(iter(reddit.subreddit("sandbox_college").comments(limit=1))).fullname == posted.fullname
    assert [thing.fullname for thing in reddit.info(fullnames=[posted.fullname, thread])] == [posted.fullname, thread]
    refreshed = reddit.comment(parent[3:]).refresh()
    assert [c.fullname for c in refreshed.replies] == [posted.fullname]
    assert reddit.comment(posted.id).refresh().body == text
    second = reddit.submission(thread[3:]).reply("to the submission itself")
    assert second.parent_id == thread and second.fullname != posted.fullname


def test_replies_survive_a_restart(tmp_path: Path) -> None:
    db = tmp_path / "sandbox.sqlite"
    with server.serve(db) as first:
        thread = thread_called(first, "Which laptop")
        reply = client(first).submission(thread[3:]).reply("still here").fullname
        before = len(first.store.comments_of(thread))
    with server.serve(db) as second:
        assert [c.fullname for c in client(second).redditor(sandbox.USERNAME).comments.new()] == [reply]
        assert len(second.store.comments_of(thread)) == before


@pytest.mark.parametrize(
    ("title", "text", "error"),
    [
        ("Spoilers", "hello", "THREAD_LOCKED"),
        ("Your favourite first sentence", "hello", "TOO_OLD"),
        ("Which laptop", "x" * 10_001, "TOO_LONG"),
        ("Which laptop", " \n ", "NO_TEXT"),
    ],
)
def test_refusals(box: Box, title: str, text: str, error: str) -> None:
    parent = box.store.comments_of(thread_called(box, title))[0]["name"]
    with pytest.raises(RedditAPIException) as refusal:
        client(box).comment(parent[3:]).reply(text)
    assert [item.error_type for item in refusal.value.items] == [error]
    assert box.store.comments_by(sandbox.USERNAME) == []


def test_a_deleted_comment_and_a_ban_refuse(box: Box) -> None:
    gone = next(c["name"] for c in box.store.comments_of(thread_called(box, "What book got you")) if c["body"] == "[deleted]")
    with pytest.raises(RedditAPIException, match="DELETED_COMMENT"):
        client(box).comment(gone[3:]).reply("hello")
    with pytest.raises(prawcore.Forbidden):
        client(box).submission(thread_called(box, "Meeting on Friday")[3:]).reply("hello")
    exactly = client(box).submission(thread_called(box, "Which laptop")[3:]).reply("x" * 10_000)
    assert len(exactly.body) == 10_000


def test_inbox(box: Box) -> None:
    reddit = client(box)
    ours = reddit.submission(thread_called(box, "Which laptop")[3:]).reply("Get a light one.")
    assert list(reddit.inbox.unread()) == []
    answer = box.say(ours.fullname, "Thanks, I will!", author="student_24")
    box.say(answer, "Not for the inbox.", author="student_39")
    unread = list(reddit.inbox.unread())
    assert [(item.fullname, item.body, item.author.name, item.was_comment) for item in unread] == [
        (answer, "Thanks, I will!", "student_24", True)
    ]
    assert unread[0].refresh().parent_id == ours.fullname
    reddit.inbox.mark_read(unread)
    assert list(reddit.inbox.unread()) == []


def test_the_stream_returns_newer_comments(box: Box) -> None:
    home = client(box).subreddit("sandbox_home")
    newest = next(iter(home.comments(limit=1))).fullname
    first, second = (box.say(thread_called(box, "My bread"), text) for text in ("one", "two"))
    assert [c.fullname for c in home.comments(limit=100, params={"before": newest})] == [second, first]


def test_subreddits_that_cannot_be_read(box: Box) -> None:
    reddit = client(box)
    with pytest.raises(prawcore.Forbidden):
        _ = reddit.subreddit("sandbox_private").over18
    with pytest.raises(prawcore.NotFound):
        _ = reddit.subreddit("sandbox_nowhere").over18
    with pytest.raises(prawcore.Redirect):
        list(reddit.subreddit("sandbox_nowhere").rising())
    assert [reddit.subreddit(name).user_is_banned for name in ("sandbox_books", "sandbox_members")] == [False, True]


def test_faults_are_switched_on_over_http(box: Box) -> None:
    reddit = client(box)
    comment = reddit.comment(box.store.comments_of(thread_called(box, "Which laptop"))[0]["name"][3:])

    def fault(method: str = "POST", **what: object) -> None:
        headers = {"Content-Type": "application/json"}
        call = urllib.request.Request(f"{box.url}/sandbox/faults", json.dumps(what).encode(), headers, method=method)
        urllib.request.urlopen(call).close()

    fault(kind="403")
    with pytest.raises(prawcore.Forbidden):
        comment.reply("refused")
    fault(kind="garbage", accepted=True)
    with pytest.raises(prawcore.BadJSON):
        comment.reply("accepted")
    fault(kind="429", seconds=7, times=5)
    with pytest.raises(prawcore.TooManyRequests) as slow:
        comment.reply("refused")
    assert slow.value.retry_after == "7"
    fault("DELETE")
    fault(kind="stale", path="/user/")
    comment.reply("not listed at first")
    listed = [[c.body for c in reddit.redditor(sandbox.USERNAME).comments.new()] for _ in range(2)]
    assert listed == [["accepted"], ["not listed at first", "accepted"]]


def test_pages_for_a_person(box: Box) -> None:
    thread = thread_called(box, "Which laptop")
    client(box).submission(thread[3:]).reply("<script>alert(1)</script> [SEP]")
    status, home = get(box.url)
    assert status == 200 and "our replies: 1" in home and "1 reply by it" in home
    link = next(part.split('"')[0] for part in home.split('href="') if "which_laptop" in part)
    status, page = get(box.url + link)
    assert status == 200 and "&lt;script&gt;alert(1)&lt;/script&gt; [SEP]" in page and "<script>" not in page
    assert page.count('class="comment ours"') == 1
    assert get(f"{box.url}/comments/nothere")[0] == 404


def test_every_thread_has_a_page(box: Box) -> None:
    _, home = get(box.url)
    links = [part.split('"')[0] for part in home.split('href="/r/')[1:]]
    assert len(links) == 20
    assert {get(f"{box.url}/r/{link}")[0] for link in links} == {200}


def test_the_seed_is_the_same_each_time(tmp_path: Path) -> None:
    seen = []
    for name in ("a", "b"):
        with server.serve(tmp_path / name, now=1_700_000_000) as box:
            seen.append([tuple(row) for row in box.store.comments_in("sandbox_home")])
    assert seen[0] == seen[1] != []
    assert max(row[-1] for row in seen[0]) < 1_700_000_000


def test_another_file_is_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not a database, and long enough to be none: " * 50)
    with pytest.raises(UserError, match="notes.txt"), server.serve(other):
        pass
    assert other.read_text().startswith("not a database")


def test_a_port_in_use_is_a_one_line_error(box: Box, tmp_path: Path) -> None:
    port = int(box.url.rsplit(":", 1)[1])
    with pytest.raises(UserError, match=str(port)), server.serve(tmp_path / "second.sqlite", port=port):
        pass


@pytest.mark.usefixtures("cold")
def test_as_a_process(tmp_path: Path) -> None:
    """The sandbox starts quickly, prints its address, and ends with its parent."""
    url_file = tmp_path / "url"
    command = [sys.executable, "-m", "bot", "sandbox", "--db", str(tmp_path / "db"), "--url-file", str(url_file), "--until-stdin-closes"]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdin is not None and process.stdout is not None
        printed = process.stdout.readline().strip()
        assert url_file.read_text().strip() == printed
        assert get(printed)[0] == 200
        process.stdin.close()
        assert process.wait(timeout=10) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.mark.usefixtures("cold")
def test_it_starts_again_after_a_kill(tmp_path: Path) -> None:
    """After a kill at any moment of seeding, the file is either empty or complete."""
    db = tmp_path / "db"
    for delay in (0.25, 0.4):
        process = subprocess.Popen([sys.executable, "-m", "bot", "sandbox", "--db", str(db)], cwd=ROOT, stdout=subprocess.DEVNULL)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    with server.serve(db) as box:
        assert len(box.store.comments_of(thread_called(box, EVENING))) == 44


@pytest.mark.usefixtures("cold")
def test_it_needs_no_model_library() -> None:
    code = "import sys, bot.sandbox.server; print(sorted({'torch', 'tensorflow', 'praw', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_process_that_does_not_start_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the sandbox didn't start; see .*sandbox\.log"), sandbox_process(tmp_path, "/bin/false"):
        pytest.fail("the process started")


def test_the_process_ends_with_its_block(tmp_path: Path) -> None:
    with sandbox_process(tmp_path) as url:
        assert get(f"{url}/")[0] in (200, 404)
    with pytest.raises(urllib.error.URLError):
        get(f"{url}/")
