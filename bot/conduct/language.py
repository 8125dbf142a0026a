"""language: is a text in a different language than its thread? Word frequencies decide if it is too short for text.is_surely_not.

Word frequencies are from wordfreq (Speer 2022, doi:10.5281/zenodo.7199437; its data is CC BY-SA 4.0).
"""

from __future__ import annotations

import math
import re
import unicodedata
from functools import cache

from bot import text

# Languages of wordfreq that use Latin letters.
LANGUAGES = (
    "en", "es", "fr", "de", "it", "pt", "nl", "sv", "nb", "da", "fi", "is", "pl", "cs", "sk", "sl", "sh", "hu", "ro", "lt", "lv", "tr",
    "vi", "fil", "id", "ms", "ca",
)  # fmt: skip
FOREIGN_LETTERS = 0.25  # maximum share of letters that are not Latin
LEAST_EVIDENCE = 3.0  # by how much another language must explain the words better; a word known only to it contributes 3 to 5
MOST_AGAINST = 2.0  # maximum evidence of one word for the thread's language, so that a few such words do not hide a foreign sentence
MOST_SIGNS = 12  # maximum in a text without letters
LEAST_WORDS, MOST_UNKNOWN = 4, 0.7
LONG_WORD = 7
LEAST_KNOWN = 1.0  # frequency assumed for a word that is not in a list
_WORD = re.compile(r"(?<![\w.@/#!])[^\W\d_]+(?:['’][^\W\d_]+)*(?![\w/@]|\.\w)")  # not a part of a dotted name, such as os.path
# Foreign phrases that are used in English.
_AT_HOME = re.compile(
    r"(?i)\b(?:c[’']est la vie|bon voyage|bon app[eé]tit|carpe diem|d[eé]j[aà] vu|du jour|je ne sais quoi|que ser[aá] ser[aá]"
    r"|faux pas|au contraire|et cetera|hasta la vista|mea culpa|cum laude)\b"
)


def is_other(body: str, language: str) -> bool:
    """True if a text is in another language or script than `language` (ISO 639-1).

    >>> is_other("Muchas gracias, muy amable", "en"), is_other("I think Не знаю", "en"), is_other("a matcha latte, déjà vu", "en")
    (True, True, False)
    """
    if language not in LANGUAGES:
        return text.is_surely_not(body, language)
    body = _AT_HOME.sub(" ", body)
    letters = [each for each in body if each.isalpha()]
    if sum(not _is_latin(each) for each in letters) > max(FOREIGN_LETTERS * len(letters), 1):
        return True
    words = [word.lower().replace("’", "'") for word in _WORD.findall(body) if len(word) > 1]
    if len(words) < 2 and not any(len(word) >= LONG_WORD for word in words):
        return False  # «Wat»
    here = [_known(word, language) for word in words]
    evidence = max(
        sum(max(_known(word, other) - known, -MOST_AGAINST) for word, known in zip(words, here, strict=True)) for other in LANGUAGES
    )
    if evidence >= LEAST_EVIDENCE:
        return True
    return evidence > -LEAST_EVIDENCE and text.is_surely_not(body, language)


def is_unreadable(body: str) -> bool:
    """True if a text contains too little that can be checked: rows of symbols, letters with many accents, words of no language.

    >>> is_unreadable("+1"), is_unreadable(":-("), is_unreadable("| / | # # # @ @ @ ~~ == == // // //")
    (False, False, True)
    >>> is_unreadable("xkq vbzt wrpl qqzx jjtr"), is_unreadable("Scunthorpe, Phuket, Titicaca, Cockermouth")
    (True, False)
    """
    marks = sum(unicodedata.category(each) in ("Mn", "Me") for each in unicodedata.normalize("NFD", body))
    alphabetic = sum(map(str.isalpha, body))
    signs = sum(not each.isalnum() and not each.isspace() and unicodedata.category(each) != "So" for each in body)
    if marks > alphabetic or (not alphabetic and signs > MOST_SIGNS):
        return True
    words = {word.lower().replace("’", "'") for word in _WORD.findall(body) if word.isascii()}
    unknown = sum(not any(frequency(word, each) for each in LANGUAGES) for word in words)
    return len(words) >= LEAST_WORDS and unknown > MOST_UNKNOWN * len(words)


@cache
def _is_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(("LATIN", "FULLWIDTH LATIN", "FEMININE ORDINAL", "MASCULINE ORDINAL", "MICRO"))


def frequency(word: str, language: str = "en") -> float:
    """The base-10 logarithm of a word's occurrences per billion words; 0 for an unknown word (Zipf scale, van Heuven et al. 2014).

    >>> frequency("the") > 7 > frequency("cocktail") > 3, frequency("kfjdhs")
    (True, 0.0)
    """
    share = _frequencies(language).get(word, 0.0)
    return math.log10(share) + 9 if share else 0.0


@cache
def _frequencies(language: str) -> dict[str, float]:
    """Word -> its share of all words."""
    from wordfreq import get_frequency_dict

    return dict(get_frequency_dict(language, "large" if language == "en" else "small"))


def _known(word: str, language: str) -> float:
    return max(frequency(word, language), LEAST_KNOWN)
