"""bot.conduct.where: every reason by its name, and no text of a comment disables one."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bot.conduct import where
from bot.conduct.where import Known, Reason, may_reply_to
from bot.config import ConductSettings, FetchSettings
from bot.reddit.threads import Thread, ThreadComment
from tests.hostile import ANY_TEXT

NOW = 1_700_000_000
US = "our_account"
RULES = ConductSettings(sensitive_subreddits=["r/OurGrief"])

# --- may the bot reply here? ------------------------------------------------------------------------------------------------


def comment(**changes: object) -> ThreadComment:
    plain = ThreadComment("t1_a", "t3_x", "reader_1", "a comment", 5, NOW - 3600, 0, False, "http://127.0.0.1/t1_a")
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def thread(**changes: object) -> Thread:
    return dataclasses.replace(Thread("t3_x", "Books", "a title", False, False, False, [], []), **changes)  # type: ignore[arg-type]


def asked(there: Thread, about: ThreadComment, known: Known = where.NOTHING_KNOWN) -> Reason | None:
    return may_reply_to(there, about, FetchSettings(), RULES, NOW, US, (), known)


@pytest.mark.parametrize(
    ("reason", "there", "about", "known"),
    [
        (Reason.SERIOUS, {"title": "[Serious] What do you do when it gets too much?"}, {}, {}),
        (Reason.SERIOUS, {"title": "(serious replies only) Why?"}, {}, {}),
        (Reason.SERIOUS, {"flair": "Serious Replies Only"}, {}, {}),
        (Reason.SERIOUS, {"flair": "Serious"}, {}, {}),
        (Reason.SENSITIVE_SUBREDDIT, {"subreddit": "SuicideWatch"}, {}, {}),
        (Reason.SENSITIVE_SUBREDDIT, {"subreddit": "ourgrief"}, {}, {}),
        (Reason.QUARANTINED, {"quarantined": True}, {}, {}),
        (Reason.NSFW, {"over_18": True}, {}, {}),
        (Reason.STICKIED, {"stickied": True}, {}, {}),
        (Reason.STICKIED, {}, {"stickied": True}, {}),
        (Reason.BOT_AUTHOR, {}, {"author": "autotldr"}, {}),
        (Reason.BOT_AUTHOR, {}, {"author": "SaveVideo"}, {}),
        (Reason.BOT_AUTHOR, {}, {"body": "This action was performed automatically."}, {}),
        (Reason.OPTED_OUT, {}, {"author": "Reader_1"}, {"opted_out": {"reader_1"}}),
        (Reason.BENCHED, {}, {}, {"benched": {"books"}}),
        (Reason.ALREADY_REPLIED_BY_US, {}, {}, {"comments": {"t1_a"}, "threads": {"t3_x"}}),
        (Reason.ALREADY_IN_THREAD, {}, {}, {"comments": {"t1_b"}, "threads": {"t3_x"}}),
        (Reason.TRIED_BEFORE, {}, {}, {"tried": {"t1_a"}}),
        (None, {"title": "A serious cake", "flair": "Discussion"}, {"author": "Talbot"}, {"opted_out": {"reader_2"}, "threads": {"t3_y"}}),
    ],
)
def test_each_reason_not_to_reply(
    reason: Reason | None, there: dict[str, object], about: dict[str, object], known: dict[str, set[str]]
) -> None:
    assert asked(thread(**there), comment(**about), Known(**known)) == reason


@settings(max_examples=150)
@given(body=ANY_TEXT, title=ANY_TEXT, author=st.sampled_from(["reader_1", US, "", "x_bot"]))
def test_no_text_disables_a_reason(body: str, title: str, author: str) -> None:
    """For any text of the comment and the title, the check returns an answer, and a reason not to reply stays in effect."""
    closed = [{"over_18": True}, {"quarantined": True}, {"locked": True}, {"archived": True}, {"stickied": True}, {"subreddit": "petloss"}]
    for there in closed:
        assert asked(thread(title=title, **there), comment(body=body, author=author)) is not None
    for known in (Known(opted_out={author.lower()}), Known(benched={"books"}), Known(comments={"t1_a"}), Known(threads={"t3_x"})):
        assert asked(thread(title=title), comment(body=body, author=author), known) is not None


def test_a_quote_of_no_bots_opts_nobody_out() -> None:
    asks, quotes = comment(body="no bots please", author="ann"), comment(body="> no bots please\n\nWhy? I like bots.", author="bea")
    there = thread(comments=[asks, dataclasses.replace(quotes, comment_id="t1_b")], author="cleo", selftext="> no bots please\n\nSays who?")
    assert where.asking_away(there) == {"ann": "t1_a"}
