"""asks: does somebody who writes to the bot ask it to stop, or to delete what it wrote? Pure.

For text written to the bot, in a reply or in a message, doubtful cases count as requests: `! STOP`, «s t o p», «leave me alone, bot» and
«unsubscribe» all count, but not what they quote. Text written to other people is no opt-out; there, topics.py looks for «no bots».

Patterns of topics/stop.txt and delete.txt, a section each: a word of [command] stands after a mark; or a clause, without what only stands
around it (<filler>), is one of [clause]; or a [phrase] stands anywhere.
"""

from __future__ import annotations

import re
from functools import cache

from bot import markdown
from bot.conduct import matching, topics
from bot.conduct.letters import latin
from bot.conduct.plain import plain, windows
from bot.conduct.reasons import Reason

_CLAUSE_END = re.compile(r"[.,!?;:\u2026\n]+|(?<!shut up )\b(?:and|or|but|then|und|y|et)\b(?! (?:think|smell|look|listen|consider|ask)\b)")
_STOP_SIGNS = frozenset("\U0001f6d1\u26d4\U0001f6ab\u270b\U0001f595\ufe0f \n!.")
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
    words = plain(shown)
    clauses = (" ".join(_filler().sub(" ", part).split()) for part in _CLAUSE_END.split(words))
    if any(each and _clause(what).fullmatch(each) for each in dict.fromkeys(clauses)):
        return True
    return any(matching.sections(what)["phrase"].match(window) for window in dict.fromkeys(windows(words)))


def _shown(body: str) -> str:
    """What its author wrote, marks and all, in lower case."""
    return latin(markdown.unmarked(body)).lower()


@cache
def _command(what: str) -> re.Pattern[str]:
    """A mark, perhaps a blank, and a word. The mark begins a word: «great! stopping there» is none."""
    words = "|".join(matching.read(what)["command"])
    return matching.compiled([rf"(?<!!)[!\u00a1/#.\-\\]{{1,9}} ?(?:{words})"])


@cache
def _clause(what: str) -> re.Pattern[str]:
    return matching.compiled(matching.read(what)["clause"])


@cache
def _filler() -> re.Pattern[str]:
    return matching.compiled(["<filler>"])
