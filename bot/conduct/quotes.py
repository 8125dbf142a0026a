"""quotes: does a text contain an invented quotation? Generators invent statements and attribute them to people.

Quotations from the thread are allowed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bot.corpus import copies

LEAST_WORDS = 4  # minimum length of a quotation; fewer words are usually a name or a phrase
_SPEECH = (
    r"(?:said|says|saying|once said|wrote|writes|told|tells|put it|claimed|remarked|replied|answered|shouted|asked|whispered|declared"
    r"|announced|stated|argued|quipped|tweeted|posted|explained|joked|warned|insisted|admitted|noted|thought|words|motto|advice|quote"
    r"|saying goes|to quote|according to|(?:study|survey|report|manual|article|paper|law|letter|sign|book|page \d+)\b[^\"“”«»„\n.!?]{0,40}?"
    r"\b(?:found|finds|shows?|reads?|states?|says?|reports?|concludes?|warns?|literally|that)|(?:on )?page \d+(?: of the \w+)?:?)"
)
_MARKS = r"[\"“”«»„]"
_ATTRIBUTED = re.compile(
    rf"(?i)\b{_SPEECH}\b[^\"“”«»„\n.!?]{{0,15}}?{_MARKS}([^\"“”«»„\n]{{6,300}}){_MARKS}"
    rf"|{_MARKS}([^\"“”«»„\n]{{6,300}}){_MARKS}[,.]?\s(?:[-–—~]\s?[A-Z]|(?:as |so )?(?:\w+\s){{0,4}}{_SPEECH}\b|{_SPEECH}\b)"
    r"|\b(?:confucius|buddha|einstein|gandhi|plato|socrates|churchill|lincoln|shakespeare|mark twain|oscar wilde|nietzsche|aristotle"
    r"|napoleon|voltaire|marx|jesus|orwell|the bible) (?:once )?(?:said|says?|wrote|writes|put it|remarked)\b(?! (?:so|it|nothing"
    r"|that\b.{0,5}$))(.{6,300})"
    r"|[\"“«]([^\"“”«»\n]{6,300})[\"”»]\s?[-–—~]\s?\w"
    rf"|\b{_SPEECH}\b[^\"'‘’“”«»„\n.!?]{{0,15}}?(?<!\w)['‘](?!\d\d?s?\b|(?:em|tis|twas|cause|til|till|bout|round)\b)((?:[^'‘’\n]|(?<=\w)['’](?=\w)){{6,300}})['’](?!\w)"
)


def invents_quote(text: str, written: Iterable[str]) -> bool:
    """True if a text attributes a quotation to somebody that is not in `written` (copies.plain of the thread's texts).

    >>> invents_quote('The mayor said "we will never build it"', [])
    True
    >>> invents_quote('You said "I like tea a lot"', ["well i like tea a lot"])
    False
    >>> invents_quote("Twain wrote: 'the sea isn't our friend'", []), invents_quote("I said it's the cats' food and the dogs' bed", [])
    (True, False)
    """
    quotes = [copies.plain(next(filter(None, match.groups()))) for match in _ATTRIBUTED.finditer(text)]
    return any(len(quote.split()) >= LEAST_WORDS and not any(quote in each for each in written) for quote in quotes)
