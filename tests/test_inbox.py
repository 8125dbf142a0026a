"""bot.online.inbox: requests to stop or to delete are obeyed, with the real PRAW against the sandbox."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bot import sandbox
from bot.cli import Busy, UserError
from bot.conduct import asks
from bot.config import RedditSettings
from bot.online import inbox
from bot.posting import ledger, letters
from bot.posting.ledger import Reply, State
from bot.reddit import client as reddit
from bot.reddit.outcomes import Outcome
from bot.reddit.threads import Letter
from bot.sandbox import server
from bot.sandbox.server import Box

NOW = int(time.time())


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    with server.serve(tmp_path / "sandbox.sqlite") as running:
        monkeypatch.setenv("BOT_REDDIT__URL", running.url)
        monkeypatch.setenv("BOT_SUBMIT__LEDGER", str(tmp_path / "ledger.sqlite"))
        yield running


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(ledger.open_ledger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def comment_by(box: Box, author: str) -> str:
    return next(row["name"] for row in box.store.comments_by(author))


def posted(box: Box, db: sqlite3.Connection, author: str, text: str = "A fine idea.") -> Reply:
    """Add an own reply to a comment by `author`, in the sandbox and in the ledger."""
    comment_id = comment_by(box, author)
    link_id = box.store.comment(comment_id)["link_id"]  # type: ignore[index]
    name = box.store.add_comment(link_id, comment_id, sandbox.USERNAME, text, NOW)["name"]
    reply = Reply(comment_id, link_id, "sandbox_books", author, "c-0", text)
    ledger.intend(db, reply, NOW)
    ledger.settle(db, comment_id, State.POSTED, "posted", NOW, name)
    result = ledger.find(db, comment_id)
    assert result is not None
    return result


def body(box: Box, name: str) -> str:
    row = box.store.comment(name)
    assert row is not None
    return str(row["body"])


def test_opt_outs_by_reply_and_by_message_are_recorded(box: Box, db: sqlite3.Connection) -> None:
    ours = posted(box, db, "reader_3")
    box.say(ours.reply_id, "!stop", author="Reader_3")
    box.write("please !stop answering me", author="reader_40")
    box.write("Hello bot, how are you?", author="reader_17")
    box.write("", author="reader_18", subject="Unsubscribe")
    inbox.main()
    assert ledger.everyone_opted_out(db) == {"reader_3", "reader_40", "reader_18"}
    assert body(box, ours.reply_id) == "A fine idea."  # nobody asked to delete it
    assert [row["body"] for row in box.store.unread_letters()] == ["Hello bot, how are you?"]  # left unread for a person
    assert box.store.unread() == []
    inbox.main()
    assert len(ledger.everyone_opted_out(db)) == 3


def test_an_opt_out_before_the_first_reply(box: Box, tmp_path: Path) -> None:
    """There is no ledger yet."""
    box.write("please don't reply to me", author="reader_40")
    inbox.main()
    with closing(ledger.open_existing(tmp_path / "ledger.sqlite")) as db:
        assert ledger.everyone_opted_out(db) == {"reader_40"}


def test_messages_that_a_person_has_read_count_too(box: Box, db: sqlite3.Connection) -> None:
    first, second = posted(box, db, "reader_3"), posted(box, db, "reader_31")
    box.store.mark_read([box.say(first.reply_id, "please stop replying to me", author="reader_3"), box.write("! stop", author="reader_40")])
    box.store.mark_read([box.say(second.reply_id, "Take this down.", author="reader_31")])
    inbox.main()
    assert ledger.everyone_opted_out(db) == {"reader_3", "reader_40"}
    assert (body(box, first.reply_id), body(box, second.reply_id)) == ("A fine idea.", "[deleted]")


def test_each_letter_is_read_once(box: Box, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    to_stop = asks.to_stop
    monkeypatch.setattr(asks, "to_stop", lambda text: read.append(text) or to_stop(text))
    box.write("`a " * 3000, subject="")
    inbox.main()
    assert len(read) == 1
    box.write("stop", author="reader_40", subject="")
    inbox.main()
    inbox.main()
    assert read[1:] == ["stop"] and ledger.everyone_opted_out(db) == {"reader_40"}


def test_old_letters_are_not_fetched_again(box: Box, db: sqlite3.Connection) -> None:
    assert letters.since_utc(db) == 0
    old, new = box.store.add_letter("reader_1", "", "hi", NOW - 10 * ledger.DAY), box.store.add_letter("reader_2", "", "hi", NOW)
    inbox.main()
    assert letters.since_utc(db) == NOW - ledger.DAY and letters.done(db) == {new}  # the old one need not be recorded
    letters.note(db, old, NOW - 10 * ledger.DAY, is_done=False)  # a deletion that Reddit refused
    assert letters.since_utc(db) == NOW - 10 * ledger.DAY


def test_a_message_deletes_all_replies_to_its_author(box: Box, db: sqlite3.Connection) -> None:
    ours, other = posted(box, db, "reader_3"), posted(box, db, "reader_31")
    box.write("please delete your reply", author="Reader_3")
    box.write("!delete", author="a_stranger")
    inbox.main()
    assert (body(box, ours.reply_id), body(box, other.reply_id)) == ("[deleted]", "A fine idea.")


def test_nobody_can_opt_out_somebody_else(box: Box, db: sqlite3.Connection) -> None:
    ours = posted(box, db, "reader_3")
    box.say(ours.reply_id, "stop replying to reader_3", author="a_stranger")
    box.write("unsubscribe u/reader_31", author="another_one")
    inbox.main()
    assert not ledger.everyone_opted_out(db) & {"reader_3", "reader_31"}


def test_only_the_person_replied_to_can_delete(box: Box, db: sqlite3.Connection) -> None:
    ours = posted(box, db, "reader_3")
    box.say(ours.reply_id, "!delete", author="somebody_else")
    inbox.main()
    assert body(box, ours.reply_id) == "A fine idea."
    box.say(ours.reply_id, "!delete", author="reader_3")
    inbox.main()
    assert body(box, ours.reply_id) == "[deleted]"
    result = ledger.find(db, ours.comment_id)
    assert result is not None and (result.state, result.outcome, result.error) == (State.WITHDRAWN, "posted", "deleted_on_request")
    assert ledger.sent_in_thread(db, ours.thread_id) == 1  # the reply still counts for its thread
    assert len(box.store.unread()) == 1  # the message of somebody_else
    inbox.main()
    assert ledger.everyone_opted_out(db) == set()


def test_delete_after_forget(box: Box, db: sqlite3.Connection) -> None:
    """The ledger no longer has the name, so the author is read from Reddit, but not recorded again."""
    ours = posted(box, db, "reader_3")
    ledger.opt_out(db, "reader_3", "forget", NOW)
    assert ledger.forget(db, "reader_3") == 1
    box.say(ours.reply_id, "!delete", author="somebody_else")
    inbox.main()
    assert body(box, ours.reply_id) == "A fine idea."
    box.say(ours.reply_id, "!delete", author="Reader_3")
    box.store.blank(ours.comment_id, "[deleted]")  # without its author, nobody can tell who wrote it
    inbox.main()
    assert body(box, ours.reply_id) == "A fine idea."
    with closing(sqlite3.connect(box.db)) as sandboxed, sandboxed:
        sandboxed.execute("UPDATE comments SET author = 'reader_3', body = 'as it was' WHERE name = ?", (ours.comment_id,))
    box.say(ours.reply_id, "please delete this", author="Reader_3")
    inbox.main()
    assert body(box, ours.reply_id) == "[deleted]"
    result = ledger.find(db, ours.comment_id)
    assert result is not None and (result.state, result.author, result.body) == (State.WITHDRAWN, "", "")


def test_three_removals_in_a_row_stop_the_run_after_all_requests(
    box: Box, db: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    removed = [posted(box, db, author) for author in ("reader_3", "reader_31", "reader_18")]
    for reply in removed:
        box.store.blank(reply.reply_id, "[removed]")
    box.write("!stop", author="reader_40")
    with pytest.raises(UserError, match="3 replies in a row were removed or forbidden"):
        inbox.main()
    assert "opted_out 1" in capsys.readouterr().out and ledger.everyone_opted_out(db) == {"reader_40"}
    assert list(ledger.benched(db, NOW)) == ["sandbox_books"]
    inbox.main()  # only one run is stopped


def test_more_than_a_hundred_replies_are_checked(box: Box, db: sqlite3.Connection) -> None:
    oldest = posted(box, db, "reader_3")
    for n in range(120):
        other = Reply(f"t1_z{n}", f"t3_z{n}", "sandbox_books", "x", "c-0", "b")
        ledger.intend(db, other, NOW + n)
        ledger.settle(db, other.comment_id, State.POSTED, "posted", NOW + n, f"t1_zz{n}")
    box.store.set_karma(oldest.reply_id, -1)
    inbox.main()
    assert body(box, oldest.reply_id) == "[deleted]"


def test_a_kill_between_deletion_and_record(box: Box, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = posted(box, db, "reader_3")
    box.say(ours.reply_id, "!delete", author="reader_3")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ledger, "withdraw", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        inbox.main()
    assert body(box, ours.reply_id) == "[deleted]" and len(box.store.unread()) == 1
    inbox.main()
    assert ledger.find(db, ours.comment_id).state == State.WITHDRAWN  # type: ignore[union-attr]
    assert box.store.unread() == []


def test_a_request_about_a_reply_in_doubt_waits(box: Box, db: sqlite3.Connection) -> None:
    """A run was killed after its POST, and the request arrives before the next run has looked for the reply."""
    comment_id = comment_by(box, "reader_3")
    link_id = box.store.comment(comment_id)["link_id"]  # type: ignore[index]
    name = box.store.add_comment(link_id, comment_id, sandbox.USERNAME, "A fine idea.", NOW)["name"]
    ledger.intend(db, Reply(comment_id, link_id, "sandbox_books", "reader_3", "c-0", "A fine idea."), NOW)
    ledger.recover(db)
    box.say(name, "!delete", author="reader_3")
    inbox.main()
    assert body(box, name) == "A fine idea."
    ledger.settle(db, comment_id, State.POSTED, "posted", NOW, name)
    inbox.main()
    assert body(box, name) == "[deleted]"


def test_replies_with_low_karma_are_withdrawn(box: Box, db: sqlite3.Connection, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disliked, ignored = posted(box, db, "reader_3"), posted(box, db, "reader_31")
    box.store.set_karma(disliked.reply_id, -1)
    box.store.set_karma(ignored.reply_id, 0)
    inbox.main()
    assert (body(box, disliked.reply_id), body(box, ignored.reply_id)) == ("[deleted]", "A fine idea.")
    assert "deleted_for_karma 1" in capsys.readouterr().out
    inbox.main()
    ledger_there = f"u/{sandbox.USERNAME} at the sandbox, ledger {tmp_path / 'ledger.sqlite'}"
    assert capsys.readouterr().out.strip() == f"inbox: nothing to do; {ledger_there}"


def test_a_removal_is_recorded_once(box: Box, db: sqlite3.Connection) -> None:
    ours = posted(box, db, "reader_3")
    box.store.blank(ours.reply_id, "[removed]")
    inbox.main()
    first = ledger.find(db, ours.comment_id)
    assert first is not None and first.state == State.POSTED and first.removed_utc
    inbox.main()
    assert ledger.find(db, ours.comment_id) == first
    assert ledger.unwelcome_in_a_row(db, "sandbox_books") == 1


def test_a_reply_that_cannot_be_deleted_now_is_deleted_later(box: Box, db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = posted(box, db, "reader_3")
    box.say(ours.reply_id, "!delete !stop", author="reader_3")
    with monkeypatch.context() as patch:
        patch.setattr(reddit, "delete", lambda client, name: Outcome.FORBIDDEN)
        inbox.main()
    assert ledger.everyone_opted_out(db) == {"reader_3"} and len(box.store.unread()) == 1
    inbox.main()
    assert body(box, ours.reply_id) == "[deleted]" and box.store.unread() == []


def test_another_run_or_another_account_s_ledger(box: Box, db: sqlite3.Connection, tmp_path: Path) -> None:
    with ledger.lock(tmp_path / "ledger.sqlite"), pytest.raises(Busy, match="another run"):
        inbox.main()
    ledger.claim(db, "https://www.reddit.com", "somebody")
    with pytest.raises(UserError, match="belongs to u/somebody"):
        inbox.main()


def test_reading_the_inbox(box: Box) -> None:
    client = reddit.connect(RedditSettings(url=box.url))
    ours = box.store.add_comment("t3_jug5xd", comment_by(box, "reader_3"), sandbox.USERNAME, "hello", NOW)["name"]
    answer = box.store.add_comment("t3_jug5xd", ours, "reader_3", "hi", NOW + 1, tell=sandbox.USERNAME)["name"]
    letter = box.store.add_letter("reader_4", "a subject", "hi there", NOW + 2)
    expected = [Letter(answer, "reader_3", "hi", ours, NOW + 1), Letter(letter, "reader_4", "hi there", "", NOW + 2, "a subject")]
    assert reddit.letters(client, 0) == expected
    reddit.mark_read(client, letter)
    assert reddit.letters(client, 0) == expected and reddit.letters(client, NOW + 2) == expected[1:]
    assert [row["name"] for row in box.store.unread_letters()] == []
    assert reddit.delete(client, ours) is reddit.delete(client, ours) is Outcome.DELETED


def test_standings(box: Box) -> None:
    client = reddit.connect(RedditSettings(url=box.url))
    parent = comment_by(box, "reader_3")
    row = box.store.comment(parent)
    assert row is not None
    box.store.set_karma(parent, -7)
    it = reddit.standings(client, [parent, "t1_zzzzzz"])[parent]
    assert (it.body, it.karma, it.removed, it.thread_id, it.subreddit) == (row["body"], -7, False, row["link_id"], "sandbox_books")
    box.store.blank(parent, "[removed]")
    again = reddit.standings(client, [parent])[parent]
    assert (again.body, again.removed, again.karma) == ("", True, -7)
    assert reddit.standings(client, []) == {}
    assert reddit.count_replies(client, parent) == 2
    assert reddit.count_replies(client, comment_by(box, "reader_40")) == 0
