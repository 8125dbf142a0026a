"""titles: what a thread's title and flair say about it: a topic, a disaster, a warning, a request for support or for serious replies only.

The patterns of topics/disaster.txt are applied to the words of the title; those of sensitive_thread.txt and serious.txt to `marked` titles.
See matching.py for their format.
"""

from __future__ import annotations

import re
import unicodedata

from bot.conduct import topics
from bot.conduct.plain import plain
from bot.conduct.reasons import Reason

MAXIMUM_LENGTH = 1000  # characters that are searched for tags; Reddit allows 300 in a title
_OPENING, _CLOSING = re.escape("[({<【〔「«|*_~"), re.escape("])}>】〕」»|*_~")
_TAG = re.compile(rf"(?<![{_OPENING}])[{_OPENING}]++([^{_OPENING}{_CLOSING}]{{1,80}})[{_CLOSING}]+")
_FLAIR_PARTS = re.compile(r"[|/;–—]|\s-\s")


def tags(title: str, flair: str = "") -> tuple[list[str], str]:
    """The `plain` text of each part of a title in brackets, bars or stars, and of each part of a flair; and of the rest of the title.

    >>> tags("**[Serious]** What helped?", "🔴 Help | Locked")
    (['serious', 'help', 'locked'], 'what helped?')
    """
    shown = unicodedata.normalize("NFKC", title[:MAXIMUM_LENGTH])
    marked = [*_TAG.findall(shown), *_FLAIR_PARTS.split(flair[:MAXIMUM_LENGTH])]
    return [words for each in marked if (words := _words(each))], _words(_TAG.sub(" ", shown))


def marked(title: str, flair: str = "") -> str:
    """Title and flair as one line of `plain` text, with the tags in brackets.

    >>> marked("**[Serious]** What helped?", "🔴 Help | Locked")
    '[ serious ] [ help ] [ locked ] what helped?'
    """
    marks, rest = tags(title, flair)
    return " ".join([*(f"[ {each} ]" for each in marks), rest]).strip()


def topic_of(title: str, flair: str = "") -> Reason | None:
    """Why a thread with this title and flair is skipped, or None.

    >>> topic_of("[Serious] What helped you?"), topic_of("What helped you?", "TW"), topic_of("A serious cake", "Help")
    (<Reason.SERIOUS: 'serious'>, <Reason.SENSITIVE_THREAD: 'sensitive_thread'>, None)
    """
    marks, _ = tags(title, flair)
    if topic := next((topic for each in (title, flair, *marks) if (topic := topics.topic_of(each))), None):
        return topic
    if topics.is_about(Reason.DISASTER, title):
        return Reason.DISASTER
    line = marked(title, flair)
    return next((topic for topic in (Reason.SENSITIVE_THREAD, Reason.SERIOUS) if topics.matches(topic, line)), None)


def _words(part: str) -> str:
    return re.sub(r"(?<=\w)\.(?=\w)", " ", " ".join(plain(part).split())).strip(" ,.:")
