"""letters: convert a text to plain letters, as a reader sees it, so that look-alikes, entities and markup do not hide words.

    visible        the text on the page: entities, full-width letters and backslashes resolved
    latin          the same, with look-alike letters replaced by a to z
    unmasked       one word with digits and symbols replaced by the letters that they stand for

The tables are Unicode's: compatibility forms and names of characters (unicodedata), confusables (UTS 39, confusable-homoglyphs).
"""

from __future__ import annotations

import html
import re
import unicodedata
from functools import cache
from itertools import product

_BACKSLASH = re.compile(r"\\(?=[!-/:-@\[-`{-~])")
# Characters without a width that Unicode does not classify as format characters: fillers, blanks, joiners.
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\u2028\u2029")
_VARIATION = re.compile("[\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")  # selectors: they change the character before them
_EMOJI = "\u2190-\u2bff\U0001f000-\U0001faff"
_JOINER = re.compile(f"(?<=[{_EMOJI}\ufe0f])\u200d(?=[{_EMOJI}])")
# Names such as REGIONAL INDICATOR SYMBOL LETTER A, NEGATIVE SQUARED LATIN CAPITAL LETTER A, LATIN SMALL LETTER O WITH STROKE.
_NAMED_LETTER = re.compile(
    r"(?:LATIN|REGIONAL|SQUARED|CIRCLED|TAG) .*?LETTER (?:SMALL CAPITAL |CAPITAL |TURNED |REVERSED |OPEN |DOTLESS |LONG "
    r"|INSULAR )*([A-Z])(?: WITH .+)?$"
)
_SOUND = re.compile(r"(?:GREEK|CYRILLIC) (?:SMALL|CAPITAL) LETTER (?:E(?=[^AEIOU]\b))?(\w+)")
# Dashes between numbers, not those between words (\u2014), and dots in the middle of a line.
_DASHES, _DOTS = frozenset("\u2010\u2011\u2012\u2013\u2212\u2043"), frozenset("\u00b7\u2022\u2219\u30fb")
_SLASHES = frozenset("\u2044\u2215\u29f8\u2571\u3033")
# One or more signs that stand for a letter. A value of two letters stands for either of them, the likelier first.
SIGNS = {
    "|_|": "u", "|\\|": "n", "/\\/": "n", "()": "o", "[]": "o", "/\\": "a", "\\/": "v", "|<": "k", "|)": "d", "|3": "b", "vv": "w",
    "0": "o", "1": "il", "!": "i", "|": "il", "3": "e", "€": "e", "4": "a", "@": "a", "5": "s", "$": "s", "§": "s", "7": "t", "+": "t",
    "ph": "f", "8": "b", "6": "g", "9": "g", "2": "z", "(": "c", "<": "c", "¢": "c", "#": "h", "%": "x", "µ": "u", "¥": "y", "£": "l",
}  # fmt: skip
_SIGN = re.compile("|".join(map(re.escape, sorted(SIGNS, key=len, reverse=True))))
MOST_READINGS = 16  # maximum for one word
# Signs that stand for a letter if they are between two letters. Other signs are common in that place.
_MASKS = {sign: SIGNS[sign][0] for sign in "01345@$!"} | {"*": "i"}
_MASKED = re.compile(rf"(?<=[a-zA-Z])[{re.escape(''.join(_MASKS))}](?=[a-zA-Z])")
_SPELLED_OUT = re.compile(r"(?<![\w.*-])[a-zA-Z](?:[.*_-][a-zA-Z]){2,20}(?![\w*-])")


# A joiner between letters of the scripts that need it.
_JOINED = re.compile(r"(?<=[{0}])[\u200c\u200d](?=[{0}])".format(r"\u0600-\u08ff\u0900-\u109f\u1780-\u18af\ufb50-\ufdff\ufe70-\ufefc"))


def has_hidden_characters(body: str) -> bool:
    """True for control (except line feed), format, unassigned and private characters, lone surrogates and blanks; not for emoji joiners.

    >>> has_hidden_characters("a\\u200bb"), has_hidden_characters("a\\u202eb"), has_hidden_characters("a\\ud800")
    (True, True, True)
    >>> has_hidden_characters("\\U0001f469\\u200d\\U0001f692 and\\n"), has_hidden_characters("a\\u200db")
    (False, True)
    """
    if body.isascii() and body.isprintable():
        return False
    return any(_is_hidden(each) and each != "\n" for each in _JOINER.sub("", body))


def without_joiners(body: str) -> str:
    r"""The text without the joiners that some scripts need between letters, such as Persian and Hindi.

    >>> without_joiners("علی\u200cرضا"), without_joiners("A\u200bnn") == "A\u200bnn", without_joiners("A\u200dnn") == "A\u200dnn"
    ('علیرضا', True, True)
    """
    return _JOINED.sub("", body)


def is_blank(body: str) -> bool:
    r"""True for a text in which nothing can be seen.

    >>> is_blank(" \u200b\u3164\ufe0f\n"), is_blank(""), is_blank("\u200b."), is_blank("\U0001f469")
    (True, True, False, False)
    """
    return all(each.isspace() or _is_hidden(each) or _VARIATION.match(each) for each in body)


def _is_hidden(character: str) -> bool:
    return character in _BLANKS or unicodedata.category(character) in ("Cc", "Cf", "Cn", "Co", "Cs")


def visible(body: str) -> str:
    r"""
    >>> visible("u&#47;a_b, \\*so\\*, ｆｕｌｌ")
    'u/a_b, *so*, full'
    """
    return unicodedata.normalize("NFKC", _BACKSLASH.sub("", html.unescape(body)))


def latin(body: str, by_sound: bool = False) -> str:
    """`visible` with every letter that looks like one of a to z replaced by that letter, every digit by 0 to 9, and without accents.

    by_sound: replace Greek and Cyrillic letters by the letters that they sound like; both are in use («ν» for v and for n).

    >>> latin("Раѕѕwоrd, \\U0001f1ed\\U0001f1ee, \\U0001f170, ᴛᴇxᴛ, café, ٣४")
    'Password, hi, a, text, cafe, 34'
    """
    text = visible(body)
    if text.isascii():
        return text
    return "".join((by_sound and _sound(each)) or _latin_letter(each) for each in unicodedata.normalize("NFD", text))


@cache
def _sound(character: str) -> str:
    """The Latin letter in a character's name: n for GREEK SMALL LETTER NU and CYRILLIC SMALL LETTER EN. Empty for other scripts."""
    match = _SOUND.match(unicodedata.name(character, ""))
    return match[1][:1].lower() if match else ""


@cache
def _latin_letter(character: str) -> str:
    """The letter that a character looks like, or its digit; empty for an accent, otherwise the character itself."""
    if character.isascii():
        return character
    if (digit := unicodedata.digit(character, None)) is not None:
        return str(digit)
    if unicodedata.category(character) in ("Mn", "Me"):
        return ""
    if character in _SLASHES:
        return "/"
    if character in _DASHES:
        return "-"
    if character in _DOTS:
        return "."
    if match := _NAMED_LETTER.search(unicodedata.name(character, "")):
        return match[1].lower()
    return _look_alike(character) if character.isalpha() else character


def _look_alike(character: str, steps: int = 2) -> str:
    """Follow Unicode's table, which lists direct look-alikes only: a Greek tau looks like a small capital T, and that like a t."""
    from confusable_homoglyphs import confusables

    entries = confusables.is_confusable(character, preferred_aliases=[]) or [{"homoglyphs": []}]
    others = [each["c"] for each in entries[0]["homoglyphs"] if len(each["c"]) == 1]
    for other in others:
        if other.isascii() and other.isalnum():
            return str(other)
    for other in others:
        if match := _NAMED_LETTER.search(unicodedata.name(other, "")):
            return match[1].lower()
    return next((result for other in others if steps > 1 and (result := _look_alike(other, steps - 1)).isascii()), character)


def without_masks(body: str) -> str:
    """A `latin` text with the letters that digits and signs between letters stand for, and with spelled-out words joined.

    >>> without_masks("K1ll it, s.t.o.p, 3 o'clock, mp3, a-b")
    "Kill it, stop, 3 o'clock, mp3, a-b"
    """
    joined = _SPELLED_OUT.sub(lambda word: re.sub("[^a-zA-Z]", "", word[0]), body)
    return _MASKED.sub(lambda sign: _MASKS[sign[0]], joined)


def unmasked(word: str) -> list[str]:
    """The readings of a word in which symbols stand for letters; other symbols are removed. At most MOST_READINGS.

    >>> unmasked("h3ll0"), unmasked("f1at"), unmasked("c.a.t")
    (['hello'], ['fiat', 'flat'], ['cat'])
    """
    parts: list[str] = []
    place = 0
    for match in _SIGN.finditer(word):
        parts += [word[place : match.start()], SIGNS[match[0]]]
        place = match.end()
    parts.append(word[place:])
    choices = [list(part) if number % 2 else ["".join(filter(str.isalpha, part))] for number, part in enumerate(parts)]
    readings = 1
    for number, choice in enumerate(choices):
        if readings * len(choice) > MOST_READINGS:
            choices[number] = choice[:1]
        readings *= len(choices[number])
    return ["".join(each) for each in product(*choices)]
