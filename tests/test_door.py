"""bot.online.door: `submit` checks every reply again (where, what, when) with the current settings and the current comment."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from bot import sandbox, schema, text
from bot.cli import UserError
from bot.conduct.when import PASSING, Refusal
from bot.config import DISCLOSURE, Settings
from bot.corpus import copies
from bot.online import door
from bot.posting import ledger, operate
from bot.posting.ledger import Reply, State
from bot.reddit import client as reddit
from bot.reddit.threads import Thread, ThreadComment
from bot.sandbox.server import Box
from bot.schema import Scored, Submitted
from tests import soak
from tests.posting import change, configure, go, opened, ours, outcomes, prepared

UNFIT = "See http://evil.example/x, it has all of them."


def edited(run: Path, *replies: str, **other: str) -> None:
    """Edit chosen.csv like a person or another program, which leaves no manifest."""
    rows = schema.read_rows(run / "chosen.csv", Scored)
    rows = [replace(row, reply=reply, **other) for row, reply in zip(rows, replies, strict=True)]
    schema.write_rows(run / "chosen.csv", Scored, rows)
    (run / "chosen.csv.manifest.json").unlink()


# --- what -------------------------------------------------------------------------------------------------------------------


def test_an_edited_chosen_csv_is_checked(box: Box, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(box, run, 2)
    edited(run, UNFIT, "Mild words of mine.")
    assert go(run) == ["link", "posted"] and len(ours(box)) == 1
    rows = schema.read_rows(run / "submitted.csv", Submitted)
    assert [row.reply for row in rows] == [UNFIT, "Mild words of mine."]
    capsys.readouterr()
    operate.status_command()
    assert "not posted in 24 hours: link 1" in capsys.readouterr().out


def test_a_candidate_without_scores_is_checked_too(box: Box, run: Path) -> None:
    prepared(box, run, 2)
    edited(run, UNFIT, "Mild words of mine.", candidate_id="of another program")
    assert go(run) == ["link", "posted"]


def test_a_row_with_another_verdict_is_refused(box: Box, run: Path) -> None:
    """For example, scored.csv renamed to chosen.csv."""
    prepared(box, run, 2)
    edited(run, "Mild words of mine.", "The other one is red.", verdict="refused")
    assert go(run) == ["not_chosen", "not_chosen"] and ours(box) == []


def test_a_waiting_reply_is_checked_with_the_current_settings(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:  # type: ignore[no-untyped-def]
    prepared(box, run, 1)
    edited(run, "It is longer than the new setting allows, by some characters.")
    box.store.add_fault("429", seconds=1)
    assert go(run) == ["rate_limited"]
    time.sleep(1.5)
    configure(monkeypatch, conduct__maximum_characters=50)
    soak.write_run(run, [])  # the next run chose nothing
    assert go(run) == ["over_long"] and ours(box) == []
    with opened(run) as db:
        assert ledger.outcomes(db) == [(State.REJECTED, "over_long", 1)]
    configure(monkeypatch, conduct__maximum_characters=1000)
    assert go(run) == [] and ours(box) == []  # a refusal is final
    capsys.readouterr()
    operate.status_command()
    assert "rejected: 1, over_long" in capsys.readouterr().out


def test_a_reply_released_by_a_person_is_checked(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (comment,) = prepared(box, run, 1)
    edited(run, "It is longer than the new setting allows, by some characters.")
    box.store.add_fault("500")
    assert go(run) == ["parked"]
    operate.resolve_command(comment.comment_id, operate.Answer.AGAIN)
    configure(monkeypatch, conduct__maximum_characters=50)
    assert go(run) == ["over_long"] and ours(box) == []


def test_two_similar_replies_in_a_run(box: Box, run: Path) -> None:
    prepared(box, run, 3)
    edited(run, "The bakery at the corner has it.", "The bakery at the corner has it!", "Something else altogether.")
    assert go(run) == ["posted", "copy_of_own", "posted"]


def test_a_copy_of_a_new_text_in_the_thread_is_refused(box: Box, run: Path) -> None:
    (comment,) = prepared(box, run, 1)
    edited(run, "The bakery at the corner has it, I think.")
    box.say(comment.thread_id, "The bakery at the corner has it, I think!", author="reader_7")
    assert go(run) == ["copy_of_thread"] and ours(box) == []


def test_a_copy_of_the_training_text_is_refused(box: Box, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "my first job was in a bakery and I got up at three every day"
    (tmp_path / "lm").mkdir()
    copies.write(tmp_path / "lm", [printed])
    configure(monkeypatch, generate__model=tmp_path / "lm")
    prepared(box, run, 1)
    edited(run, printed.replace("bakery", "brewery"))
    assert go(run) == ["copy_of_training"] and ours(box) == []


# --- where ------------------------------------------------------------------------------------------------------------------


def test_a_comment_that_was_edited_is_not_answered(box: Box, run: Path) -> None:
    comments = prepared(box, run, 3)
    change(box, "UPDATE comments SET body = body || ' Edit: solved, thanks.' WHERE name = ?", comments[0].comment_id)
    change(box, "UPDATE comments SET body = '  ' || replace(body, ' ', '  ') || char(10) WHERE name = ?", comments[1].comment_id)
    assert go(run) == ["edited", "posted", "posted"]  # changes of white space do not count as edits


def test_an_edit_between_two_attempts_is_detected(box: Box, run: Path) -> None:
    """Even if the comment is fetched again: it is compared with the text for which the reply was written."""
    (comment,) = prepared(box, run, 1)
    box.store.add_fault("429", seconds=1)
    assert go(run) == ["rate_limited"]
    change(box, "UPDATE comments SET body = 'Something else is asked now.' WHERE name = ?", comment.comment_id)
    soak.write_run(run, [])
    time.sleep(1.5)
    assert go(run) == ["edited"] and ours(box) == []
    with opened(run) as db:
        assert ledger.outcomes(db) == [(State.REJECTED, "edited", 1)]


def test_a_reply_without_a_fingerprint_of_its_comment_is_not_sent(box: Box, run: Path) -> None:
    """Rows of a ledger with the first layout have none."""
    (comment,) = prepared(box, run, 1)
    with opened(run) as db:
        reply = Reply(comment.comment_id, comment.thread_id, "sandbox_books", comment.author, "c-0", "A reply.")
        ledger.intend(db, reply, int(time.time()))
        ledger.settle(db, comment.comment_id, State.READY, "not_sent", int(time.time()))
    soak.write_run(run, [])
    assert go(run) == ["edited"]


def test_a_deep_comment_is_read_with_its_ancestors(box: Box) -> None:
    client = reddit.connect(Settings().reddit)
    thread = box.store.submissions("sandbox_books")[0]["name"]
    names = [box.say(thread, "First of a long chain.")]
    for number in range(12):
        names.append(box.say(names[-1], f"Answer number {number}."))
    outcome, result = reddit.read_comment(client, thread, names[-1], 0)
    assert outcome is reddit.Outcome.READ and result is not None
    depths = {each.comment_id: each.depth for each in result.comments}
    assert [depths[name] for name in names] == list(range(13))
    other = box.store.submissions("sandbox_books")[1]["name"]
    assert reddit.read_comment(client, other, names[-1], 0) == (reddit.Outcome.MISSING, None)
    assert reddit.read_comment(client, thread, "t1_zzzzzz", 0) == (reddit.Outcome.MISSING, None)


def test_the_comment_is_read_again_after_a_long_wait_for_the_rate_limit(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (comment,) = prepared(box, run, 1)
    waits = [31.0, 0.0]

    def wait(client: object) -> float:
        change(box, "UPDATE comments SET body = 'No bots, please: my dog died.' WHERE name = ?", comment.comment_id)
        return waits.pop(0)

    monkeypatch.setattr(reddit, "wait_for_turn", wait)
    assert go(run)[0] != "posted" and ours(box) == [] and waits == [0.0]


def test_a_request_in_the_inbox_is_carried_out_before_anything_is_posted(box: Box, run: Path) -> None:
    first, second = prepared(box, run, 2)
    box.write("!stop", author=first.author)
    assert go(run)[0] == "opted_out" and first.author != second.author and len(ours(box)) == 1


# --- the function objection ---------------------------------------------------------------------------------------------------

NOW = 1_700_000_000
COMMENT = ThreadComment("t1_a", "t3_x", "reader_1", "Which book was it that you liked so much?", 5, NOW - 3600, 0, False, "")
ASKING = replace(COMMENT, comment_id="t1_b", body="No bots please, I only want to talk to people.")
THREAD = Thread("t3_x", "books", "Books for a trip", False, False, False, [COMMENT], [])
REPLY = Reply(
    "t1_a", "t3_x", "books", "reader_1", "t1_a-0", "It was the one with the lighthouse.", comment_sha256=text.fingerprint(COMMENT.body)
)


@pytest.mark.parametrize(
    ("reply", "thread", "memory", "expected"),
    [
        (REPLY, THREAD, door.Memory(), None),
        (REPLY, replace(THREAD, locked=True), door.Memory(), "locked"),
        (REPLY, replace(THREAD, comments=[replace(COMMENT, body="Which one?")]), door.Memory(), "edited"),
        (replace(REPLY, comment_sha256=""), THREAD, door.Memory(), "edited"),
        (replace(REPLY, body=UNFIT), THREAD, door.Memory(), "link"),
        (REPLY, THREAD, door.Memory(["It was the one with the lighthouse!"]), "copy_of_own"),
        (REPLY, replace(THREAD, comments=[COMMENT, replace(COMMENT, comment_id="t1_b", body=REPLY.body)]), door.Memory(), "copy_of_thread"),
        (REPLY, replace(THREAD, comments=[COMMENT, replace(COMMENT, comment_id="t1_b", author="Us")]), door.Memory(), "already_in_thread"),
        (REPLY, THREAD, door.Memory(opted_out={"reader_1"}), "opted_out"),
        (REPLY, replace(THREAD, author="Poster"), door.Memory(opted_out={"poster"}), "opted_out"),
        (REPLY, replace(THREAD, author="Poster"), door.Memory(opted_out={"reader_2"}), None),
        (REPLY, replace(THREAD, comments=[COMMENT, ASKING]), door.Memory(), "opted_out"),
        (REPLY, replace(THREAD, comments=[COMMENT, replace(ASKING, author="reader_2")]), door.Memory(), None),
        (REPLY, replace(THREAD, selftext=f"I read it twice. {REPLY.body}"), door.Memory(), "copy_of_thread"),
    ],
)  # fmt: skip
def test_objections_to_a_reply(reply: Reply, thread: Thread, memory: door.Memory, expected: str | None) -> None:
    assert door.objection(reply, thread, "us", NOW, memory, Settings()) == expected


def test_only_temporary_refusals_keep_a_reply_ready() -> None:
    final = set(Refusal) - PASSING
    assert {Refusal.NOT_ALLOWED, Refusal.BENCHED, Refusal.OPTED_OUT, Refusal.EDITED, Refusal.WAITED_TOO_LONG} <= final
    assert {Refusal.PAUSED, Refusal.HOUR_CAP, Refusal.ASKED_TO_WAIT} <= PASSING


def test_a_withdrawn_permission_is_a_final_refusal_of_waiting_replies(box: Box, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(box, run, 1)
    box.store.add_fault("429", seconds=1)
    assert go(run) == ["rate_limited"]
    time.sleep(1.5)
    configure(monkeypatch, submit__allowed='[{"subreddit": "sandbox_home", "permitted_by": "nobody"}]')
    assert go(run) == ["not_allowed"]
    with opened(run) as db:
        assert ledger.outcomes(db) == [(State.REJECTED, "not_allowed", 1)]


# --- what is sent -------------------------------------------------------------------------------------------------------------


def test_a_comment_of_chosen_csv_must_be_in_comments_csv(box: Box, run: Path) -> None:
    prepared(box, run, 1)
    edited(run, "Mild words of mine.", comment_id="t1_other")
    with pytest.raises(UserError, match="comments.csv: t1_other of chosen.csv is not in it"):
        go(run)


def test_the_surroundings_are_the_thread_without_the_comment() -> None:
    german = "Das weiß ich leider auch nicht, aber frag doch morgen noch einmal nach."
    there = door.Surroundings("Titel", {"t1_a": "Which book was it that you liked so much?", "t1_b": german})
    around = there.around("t1_a", there.comments["t1_a"], ["earlier"])
    assert (around.thread, around.own, around.language) == (["titel", copies.plain(german)], ["earlier"], "de")
    assert there.around("t1_b", german).language == "en"
    assert door.Surroundings("", {"t1_a": german}).around("t1_a", german).language == "de"  # there is no other text to tell the language


def test_the_disclosure_is_removed_from_own_texts() -> None:
    assert door.without_disclosure(door.posted_text("One.\n\nTwo.", DISCLOSURE)) == "One.\n\nTwo."
    assert door.without_disclosure("One.\n\nTwo.") == "One.\n\nTwo."
    assert text.discloses(door.posted_text("One.", DISCLOSURE)) and not text.discloses("I am a bot")
    earlier = "*I am a bot: a program wrote this, and nobody read it before. Reply `!stop` and I never answer you again.*"  # on Reddit
    assert door.without_disclosure(f"One.\n\n{earlier}") == "One."


def test_the_reply_is_posted_unchanged(box: Box, run: Path) -> None:
    prepared(box, run, 1)
    assert go(run) == outcomes(run) == ["posted"]
    assert [row["body"] for row in box.store.comments_by(sandbox.USERNAME)] == [f"{soak.TEXTS[0]}\n\n{DISCLOSURE}"]
