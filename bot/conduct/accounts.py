"""accounts: detect bots by the account's name, the form of the name, or a signature in the text."""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import pairwise

from bot import text
from bot.conduct import matching, words
from bot.conduct.plain import plain, sentences

# The parts of a name: words in camel case, or separated by punctuation and digits.
_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_ZERO = re.compile(r"(?<=[A-Za-z])0(?=[A-Za-z])")
_SAYS_BOT = frozenset(
    {"bot", "bots", "chatbot", "gpt", "chatgpt", "llm", "llms", "automod", "automoderator", "modmail", "tldr", "autoreply"}
)
_LAST = frozenset({"ai", "simulator"})
# Activities of programs, as the second part of a name: gif_slower, xyz_transcriber.
_WORKERS = re.compile(
    r"(?:transcrib|mail|slow|revers|convert|stabili[sz]|download|summari[sz]|notif(?:y|i)|respond|autorespond|scrap|crawl|archiv|mirror"
    r"|translat|remind|unfurl|repost|link|counter|count|detect|correct|reply|post|moderat|flair|check|find|fetch|generat|aggregat)(?:er|or)"
)
# «haikusbot», but not Talbot, Abbot, Cabot, Turbot or Herbot.
_ENDS_IN_BOT = re.compile(r"(?i)[a-z]{4,}(?<!tal)(?<!ab)(?<!ca)(?<!tur)(?<!her)(?<!sa)(?<!el)(?<!jo)(?<!cor)(?<!ro)bot[\d_-]*")


def is_bot(author: str, body: str, known: Collection[str] = ()) -> bool:
    """True if the author's name is that of a bot, or if the text has a bot's signature. known: additional names, in lower case.

    >>> [is_bot(name, "") for name in ("AutoModerator", "haiku_bot", "RemindMeBot", "gif_slower", "haikusbot", "B0tWatcher", "LLMAnswers")]
    [True, True, True, True, True, True, True]
    >>> is_bot("reader_1", "> Tea?\\n\\n^^I ^^am ^^a ^^bot"), is_bot("Talbot", "My robot vacuum is a bot I love"), is_bot("Abbott", "")
    (True, False, False)
    """
    name = author.lower()
    return name in words.BOTS or name in known or has_name_of_bot(author) or has_signature_of_bot(body)


def has_name_of_bot(author: str) -> bool:
    """True for a name in a form that is typical of bots."""
    if re.search(text.BOT_NAME, author) or _ENDS_IN_BOT.fullmatch(author):
        return True
    parts = [part.lower() for part in _PARTS.findall(_ZERO.sub("o", author))]
    pairs = [first + second for first, second in pairwise(parts)]  # ModMail
    if not _SAYS_BOT.isdisjoint([*parts, *pairs]) or (len(parts) > 1 and parts[-1] in _LAST):
        return True
    return len(parts) > 1 and _WORKERS.fullmatch(parts[-1]) is not None


def has_signature_of_bot(body: str) -> bool:
    """True for a text with a bot's signature, with any Markdown between its words; quotes are ignored.

    >>> has_signature_of_bot("^^I ^^am ^^a ^^bot"), has_signature_of_bot("I'm not a bot"), has_signature_of_bot("> I am a bot\\n\\nso?")
    (True, False, False)
    """
    if re.search(text.BOT_SAYS_SO, text.clean(body).replace("\\", "")):
        return True
    signature = matching.sections("bot_signature")[""]
    return any(signature.match(each) for each in sentences(plain(body, quotes=False)))
