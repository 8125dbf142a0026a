"""topics: detect subjects that the bot must not answer: crisis, grief, abuse, an emergency, addiction, a child, «no bots».

The patterns are in topics/NAME.txt (matching.py). Their section determines which sentences are exempt:

    [always]                            sentences about a story without the word «I» (stories.txt)
    [not in stories]                    all sentences about a story
    [not long ago]                      sentences about things long past (long_ago.txt)
    [not in stories, not long ago]      both
"""

from __future__ import annotations

import re
from functools import cache

from bot.conduct import matching
from bot.conduct.plain import joined, plain, sentences, windows
from bot.conduct.reasons import Reason

# In the order of the checks.
TOPICS = (Reason.CRISIS, Reason.ABUSE, Reason.EMERGENCY, Reason.GRIEF, Reason.ADDICTION, Reason.MINOR, Reason.NO_BOTS)
# These apply to sentences about stories, too.
NEVER_OF_STORIES = frozenset({Reason.MINOR, Reason.NO_BOTS, Reason.SENSITIVE_THREAD, Reason.SERIOUS})
LONG_OVER = frozenset({Reason.GRIEF, Reason.EMERGENCY, Reason.ADDICTION, Reason.MINOR})  # harmless if long past

_PRESENT = re.compile(r"\b(?:is|are|am|hes|shes|im) (?:\w+ )?(?:having|on fire|choking|bleeding|burning|trapped)\b")
_FIRST_PERSON = re.compile(r"\b(?:i|im|ive|ill|id|me|my|mine|myself|we|weve|our|us)\b")


def topic_of(body: str) -> Reason | None:
    """The first of TOPICS that a text is about, or None.

    >>> topic_of("I like it. I want to kill myself"), topic_of("That film killed me"), topic_of("I'm 11 and new here")
    (<Reason.CRISIS: 'crisis'>, None, <Reason.MINOR: 'minor'>)
    """
    pieces = pieces_of(body)
    return next((topic for topic in TOPICS if any(matches(topic, piece) for piece in pieces)), None)


def is_about(topic: Reason, body: str, quotes: bool = True) -> bool:
    """Whether a text is about one topic. quotes: include quoted text."""
    return any(matches(topic, piece) for piece in pieces_of(body, quotes))


def pieces_of(body: str, quotes: bool = True) -> list[str]:
    """The sentences of a text, as `plain` text, plus short ones joined: «I'm done. With everything.» Long sentences are split."""
    parts = sentences(plain(body, quotes))
    return list(dict.fromkeys(window for part in (*parts, *joined(parts)) for window in windows(part)))


def windows_of(body: str, short: int = 25, least: int = 12) -> list[str]:
    """A text of at most `short` words as one line of `plain` text; otherwise each sentence with the following ones, up to `least` words.

    >>> windows_of("I like it. Not the end, though."), len(windows_of("It is 1. It is 2. It is 3. " * 4))
    (['i like it. not the end, though.'], 3)
    """
    words = plain(body)
    whole = " ".join(words.split())
    if whole.count(" ") < short:
        return [whole] if whole else []
    parts = sentences(words)
    result = []
    for start in range(len(parts)):
        end, size = start, 0
        while end < len(parts) and size < least:
            size += parts[end].count(" ") + 1
            end += 1
        result.append(". ".join(parts[start:end]))
        if end == len(parts):
            break
    return list(dict.fromkeys(result))


def matches(topic: Reason, piece: str) -> bool:
    """Whether one of a topic's patterns applies to a piece of text."""
    sections = [section for section, pattern in matching.sections(topic).items() if pattern.match(piece)]
    if not sections or topic in NEVER_OF_STORIES:
        return bool(sections)
    in_story = is_in_story(piece)
    if in_story and not _FIRST_PERSON.search(piece):
        return False
    long_over = is_long_over(topic, piece)
    return any(not (in_story and "not in stories" in section) and not (long_over and "not long ago" in section) for section in sections)


def is_elsewhere(topic: Reason, piece: str) -> bool:
    """Whether a piece of text is harmless although it is about a topic: about a story without «I», about things long past, or by an adult
    about children. For the verdicts of a classifier.

    >>> is_elsewhere(Reason.CRISIS, "in the novel she drowns herself"), is_elsewhere(Reason.MINOR, "when i was 12 we moved to the coast")
    (True, True)
    """
    if (topic in LONG_OVER and is_long_over(topic, piece)) or (topic is Reason.MINOR and _has("adults", piece)):
        return True
    return topic not in NEVER_OF_STORIES and is_in_story(piece) and not _FIRST_PERSON.search(piece)


def is_in_story(piece: str) -> bool:
    """Whether a piece of text is about an invented story, and not about something real that happens at a game, during a song, …

    >>> is_in_story("the villain dies in the last chapter"), is_in_story("everybody dies in this game")
    (True, True)
    >>> is_in_story("a man collapsed at the game"), is_in_story("level 2 of the garage, he isnt breathing")
    (False, False)
    """
    rest = _pattern("stories", "attended").sub(" ", piece)
    return _has("stories", rest) or (_has("stories", rest, "weak") and not _pattern("stories", "now").search(piece))


def is_long_over(topic: Reason, piece: str) -> bool:
    """Whether a piece of text is about things long past and nothing recent; for an emergency, also nothing for which help is needed now."""
    is_now = topic is Reason.EMERGENCY and (_pattern("stories", "now").search(piece) or _PRESENT.search(piece))
    return _has("long_ago", piece) and not is_now and not _lately().search(piece)


def _has(name: str, piece: str, section: str = "") -> bool:
    return matching.sections(name)[section].match(piece)


@cache
def _pattern(name: str, section: str) -> re.Pattern[str]:
    return matching.compiled(matching.read(name)[section])


@cache
def _lately() -> re.Pattern[str]:
    now = ["tomorrow", "funeral (?:is|will)", "(?:is|are) dying", "just (?:died|passed|lost)"]
    return matching.compiled(["<fresh>", "again", "anymore", r"threw \w+ away", r"relaps\w+", *now])
