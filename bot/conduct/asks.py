"""asks: does a reply or a message to the bot ask it to stop, or to delete what it wrote? Pure.

Doubtful cases count as requests: `! STOP`, «s t o p», «leave me alone, bot» and «unsubscribe» all do. Quoted text does not count. These
functions are only for text written to the bot; in text written to other people, topics.py looks for «no bots».

topics/stop.txt and topics/delete.txt have three sections. A [command] is a word that follows a mark such as `!`. A [clause] is a whole
clause, apart from filler words (<filler>). A [phrase] may occur anywhere.
"""

from __future__ import annotations

import re
from functools import cache

from bot import markdown, text
from bot.conduct import matching, topics
from bot.conduct.letters import latin
from bot.conduct.plain import plain, windows
from bot.conduct.reasons import Reason

_CLAUSE_END = re.compile(r"[.,!?;:\u2026\n]+|(?<!shut up )\b(?:and|or|but|then|und|y|et)\b(?! (?:think|smell|look|listen|consider|ask)\b)")
_STOP_SIGNS = frozenset("\U0001f6d1\u26d4\U0001f6ab\u270b\U0001f595\ufe0f \n!.")
_NAME = re.compile(r"(?<![\w/])(?:/?u/|@)[\w-]+")  # whom it is said to
_LONG = re.compile(r"([a-z])\1{2,}")  # «pleaseee stop»
_SPACED_STOP = re.compile(r"(?<!\w)s(?:[ .*_-]t[ .*_-]o[ .*_-]|\W{2}t\W{2}o\W{2})p(?!\w)")


def to_stop(body: str) -> bool:
    """Whether a text asks the bot never to answer its author again.

    >>> [to_stop(each) for each in ("! STOP", "Leave me alone, bot.", "stop by the library sometime", "> !stop\\n\\nWhat is that for?")]
    [True, True, False, False]
    """
    if body.strip() and _STOP_SIGNS.issuperset(body) and not body.isascii():
        return True
    shown = _shown(body)
    return _asks("stop", shown) or _SPACED_STOP.search(shown) is not None or topics.is_about(Reason.NO_BOTS, body, quotes=False)


def to_delete(body: str) -> bool:
    """Whether a text asks the bot to delete its reply.

    >>> [to_delete(each) for each in ("! delete", "please take this down", "deleted scenes are fun", "remove the lid first")]
    [True, True, False, False]
    """
    return _asks("delete", _shown(body))


def _asks(what: str, shown: str) -> bool:
    if _command(what).search(shown):
        return True
    readings = [shown, _LONG.sub(r"\1", shown)]
    readings += [_NAME.sub(lambda name: _unless_of_a_person(what, name[0]), reading) for reading in readings]
    for words in dict.fromkeys(map(plain, readings)):
        clauses = (" ".join(_filler().sub(" ", part).split()) for part in _CLAUSE_END.split(words))
        if any(each and _clause(what).fullmatch(each) for each in dict.fromkeys(clauses)):
            return True
        if any(matching.sections(what)["phrase"].match(window) for window in dict.fromkeys(windows(words))):
            return True
    return False


def _unless_of_a_person(what: str, name: str) -> str:
    """A blank, or the name of a person in «u/somebody_else delete this», which is not said to the bot: deleting cannot be undone."""
    return " " if what == "stop" or text.is_bot_name(name.rpartition("/")[2].lstrip("@")) else name


def _shown(body: str) -> str:
    """A text in lower case, without quotes, with its marks."""
    return latin(markdown.unmarked(body)).lower()


@cache
def _command(what: str) -> re.Pattern[str]:
    """A mark, an optional space and a command. The mark must not end a word: «great! stopping there» does not match."""
    words = "|".join(matching.read(what)["command"])
    return matching.compiled([rf"(?<!!)[!\u00a1/#.\-\\]{{1,9}} ?(?:{words})"])


@cache
def _clause(what: str) -> re.Pattern[str]:
    return matching.compiled(matching.read(what)["clause"])


@cache
def _filler() -> re.Pattern[str]:
    return matching.compiled(["<filler>"])
