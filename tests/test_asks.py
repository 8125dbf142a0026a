"""bot.conduct.asks: requests to stop replying or to delete a reply. All lines are invented."""

from __future__ import annotations

import pytest

from bot.conduct import asks
from tests.growth import growth

STOP = [
    "!stop", "Please `!STOP`.", "**!stop**", "! Stop", "！ｓｔｏｐ", "!stoop", "/stop", "s-t-o-p", "ѕtоp", "STOP STOP", "stop, please",
    "Pls stop it now",
    "Stop messaging me", "please never answer me again", "don't write to me", "do not respond to my posts", "unsubscribe me",
    "UNSUBSCRIBE", "opt out",
    "I'd like to opt out", "!optout", "leave me be", "just leave me alone, thanks", "go away!", "Get lost, robot", "shut up, bot",
    "block me",
    "take me off your list", "remove me from this", "I don't want replies from a program", "I do not consent", "no bots",
    "bad bot, quit it", "🛑",
    "!exit", "! no bots", "!unfollow me", "can you not?", "Shut it.", "you're muted", "go and annoy somebody else",
    "stay away from my posts",
    "stawp", "st op", "do not interact", "I never signed up for this", "you don't have our permission", "no replies, thank you",
    "I already said to stop", "he and I told you to leave", "don't do that again",
    "That's enough.", "Dear bot, stop.\n\nSent from a telephone", "Nice try. Stop.", "> !stop\n\n!stop", "basta", "Lass mich in Ruhe",
]  # fmt: skip
DELETE = [
    "!delete", "**! DELETE**", "!remove", "!rm", "delete this", "Please remove your comment", "could you take this down?",
    "I want this gone", "erase it",
    "!dlete", "!purge", "take it offline", "deletion, please", "Would you mind removing your comment?", "Lösche das", "borra esto",
    "get rid of that", "this needs to be deleted", "retract your reply, please", "delete", "removal: I request deletion",
]  # fmt: skip
BOTH = ["!stop and !delete", "delete this and never reply to me", "Stop. Delete."]
NEITHER = [
    "", "thanks!", "I stopped at chapter two", "the bus stop is round the corner", "great! stopping by later", "don't stop, this is fun",
    "Stop by any time",
    "we leave at noon", "leave it to cool", "remove the seeds first", "deleted scenes are the best", "I deleted that app",
    "who made you?", "are you a bot?",
    "good bot", "I disagree with you", "ignore the noise outside", "the list of names is long",
    "> reply `!stop` to stop\n\nI like this bot",
    "stop and smell the bread", "she said stop signs are ugly", "stay away from the edge", "I told you to stop at the third exit",
    "no answers in the back of the book", "the purge of the list", "I never agreed with that critic",
    "shut up and take my money", "quit while it is good", "non-stop trains", "I can't stop laughing",
]  # fmt: skip


def test_stop() -> None:
    assert [line for line in STOP + BOTH if not asks.to_stop(line)] == []
    assert [line for line in DELETE + NEITHER if asks.to_stop(line)] == []


def test_delete() -> None:
    assert [line for line in DELETE + BOTH if not asks.to_delete(line)] == []
    assert [line for line in STOP + NEITHER if asks.to_delete(line)] == []


@pytest.mark.parametrize(
    "unit",
    ["`a ", " __a", "!", "! ", "stop ", "delete this ", "delete your the bot ", "please ", "dont you dare ", "a, ", "no more ", "é", "🛑"],
)
def test_time_is_linear(unit: str) -> None:
    assert growth(asks.to_stop, unit + "x ") < 30 and growth(asks.to_delete, unit) < 30


@pytest.mark.parametrize(
    "body",
    ["u/plum_talker stop", "hey u/plum_talker, please stop", "stop @plum_talker", "pleaseee stop", "leave me aloneeee", "unsub\u00adscribe",
     "[u/plum_talker](/u/plum_talker) stop"],
)  # fmt: skip
def test_a_name_and_long_or_split_words_hide_no_request(body: str) -> None:
    assert asks.to_stop(body)
    assert not asks.to_stop(f"> {body}\n\nWho says that?")


@pytest.mark.parametrize("body", ["stpo", "Sotp it!", "unsuscribe", "unsubscibe me pls", "leav me alone", "leave me alnoe"])
def test_typing_errors_hide_no_request(body: str) -> None:
    assert asks.to_stop(body)
    assert not asks.to_stop("I'm unsure whether the stoop is old") and not asks.to_stop("unsubtle, but fun")


def test_what_somebody_else_should_delete_is_not_deleted() -> None:
    assert not any(map(asks.to_delete, ("u/other_person delete this", "@dave delete this")))
    assert all(map(asks.to_delete, ("u/reply-bot delete this", "u/BookReplyBot delete this")))
    assert asks.to_stop("@stop") and asks.to_stop("/u/stop") and asks.to_delete("pleaseee delete")
