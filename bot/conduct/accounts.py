"""accounts: detect bots by the name of the account, its form, or a signature in the text."""

from __future__ import annotations

import re
from collections.abc import Collection

from bot import text
from bot.conduct import matching, words
from bot.conduct.plain import plain, sentences


def is_bot(author: str, body: str, known: Collection[str] = ()) -> bool:
    """True if the author's name is that of a bot, or if the text has a bot's signature. known: additional names, in lower case.

    >>> [is_bot(name, "") for name in ("AutoModerator", "haiku_bot", "RemindMeBot", "gif_slower", "haikusbot", "B0tWatcher", "LLMAnswers")]
    [True, True, True, True, True, True, True]
    >>> is_bot("reader_1", "> Tea?\\n\\n^^I ^^am ^^a ^^bot"), is_bot("Talbot", "My robot vacuum is a bot I love"), is_bot("Abbott", "")
    (True, False, False)
    """
    name = author.lower()
    return name in words.BOTS or name in known or text.is_bot_name(author) or has_signature_of_bot(body)


def has_signature_of_bot(body: str) -> bool:
    """True for a text with a bot's signature, with any Markdown between its words; quotes are ignored.

    >>> has_signature_of_bot("^^I ^^am ^^a ^^bot"), has_signature_of_bot("I'm not a bot"), has_signature_of_bot("> I am a bot\\n\\nso?")
    (True, False, False)
    """
    if re.search(text.BOT_SAYS_SO, text.clean(body).replace("\\", "")):
        return True
    signature = matching.sections("bot_signature")[""]
    return any(signature.match(each) for each in sentences(plain(body, quotes=False)))
