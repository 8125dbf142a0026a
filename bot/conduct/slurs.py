"""slurs: swear words and slurs, in any spelling.

The words are glin-profanity's English list without mild_words.txt and with more_slurs.txt. A word is detected in these forms:

    itself, or its plural            also in look-alike letters (letters.latin)
    with symbols as letters          sh1t, f**k
    with separators                  s h i t, f.u.c.k, fu~~c~~k, in two halves, across two lines
    with repeated letters            shiiit, sshhiitt
    without its vowels               fck
    inside a word                    if the rest consists of English words; not in Scunthorpe
    reversed

All forms except the first count only if the text is not itself an English word (wordfreq).
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise

from bot.conduct import letters, words
from bot.conduct.language import frequency

KNOWN = 1.5  # minimum Zipf frequency of an English word, including rare names: Penistone, Cockermouth
COMMON = 3.5  # minimum Zipf frequency of a word to which a listed word may be attached
PIECE = 4.3  # minimum Zipf frequency of two words that form a listed word by coincidence: «the pen is red»
LEAST_LETTERS = 4  # minimum length of a listed word that is searched inside others, or backwards
LEAST_CONSONANTS = 3
LONGEST = 30  # maximum length of a word inside which others are searched
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_EDGES = ".,;:?!\"'()[]{}<>«»“”‘’…-–—/"
_TIGHT = re.compile(r"[*_~`^]|[^\x00-\x7f]")  # between letters, these only occur in disguised words
_VOWELS = str.maketrans("", "", "aeiou")
_LETTERS = re.compile(r"[a-z]+")
_THRICE = re.compile(r"(.)\1{2,}")
_TWICE = re.compile(r"(.)\1")


def bad_words(body: str) -> list[str]:
    """The listed words in a text, each once.

    >>> bad_words("you sh1t"), bad_words("s h i t"), bad_words("that gay couple is nice, in Scunthorpe")
    (['shit'], ['shit'], [])
    """
    result: dict[str, None] = {}
    pieces = [piece for chunk in letters.visible(body).split() for piece in _CAMEL.sub(" ", chunk).split()]
    for by_sound in (False,) if body.isascii() else (False, True):
        result |= dict.fromkeys(_in_chunks([letters.latin(piece, by_sound).lower() for piece in pieces]))
    return [word for word in result if not _in_another_sense(word, body)]


def _in_chunks(whole: list[str]) -> list[str]:
    chunks = [chunk.strip(_EDGES) for chunk in whole]
    result = _phrase_pattern().findall(" ".join(whole))
    result += [word for chunk in dict.fromkeys([*chunks, *whole]) for word in _in_chunk(chunk)]
    result += [word for one, other in pairwise(chunks) for word in _in_halves([one, other])]
    return result + [word for run in _single_letters(chunks) for word in _listed(run)]


def _in_another_sense(word: str, body: str) -> bool:
    """True if the text contains a word that indicates a harmless sense of `word`: the bitch of a litter."""
    others = words.OTHER_SENSES.get(word, frozenset())
    return bool(others) and not others.isdisjoint(_LETTERS.findall(body.lower()))


def _in_chunk(chunk: str) -> list[str]:
    """The listed words in a chunk of characters without spaces."""
    parts = _LETTERS.findall(chunk)
    result = [word for part in parts for word in _listed(part)]
    if result or chunk in parts or len(chunk) > 3 * LONGEST:
        return result
    if "*" in chunk or "#" in chunk:
        result += _censored(chunk)
    for reading in letters.unmasked(chunk):
        if not any(each.isdigit() or each in "$@!|(+" for each in chunk):
            result += _in_halves(parts) if not _TIGHT.search(chunk) else _listed(reading)
        elif any(map(str.isalpha, chunk)) or "$" in chunk:
            result += _plain(reading) + _glued(reading)
    return result


def _in_halves(parts: list[str]) -> list[str]:
    """The listed words made by joining the parts, unless all parts are words themselves."""
    together = "".join(parts)
    if len(parts) < 2 or len(together) > LONGEST or not together.isalpha():
        return []
    if all(len(part) > 1 and frequency(part) >= PIECE for part in parts):
        return []
    if not all(len(part) == 1 for part in parts) and max(map(len, parts)) == len(together) - 1:
        return []  # «a ss»: one letter beside a word
    return _plain(together)


def _single_letters(chunks: list[str]) -> list[str]:
    """Spelled-out words: each run of single letters, also without one-letter words at its ends."""
    runs = re.findall(r"(?:\S )+", " ".join(chunk if len(chunk) == 1 else "--" for chunk in chunks) + " ")
    joined = ["".join(each for each in run if each.isalnum()) for run in runs]
    return [part for run in joined if len(run) >= 3 for part in (run, run[1:], run[:-1], run[1:-1])]


def _listed(word: str) -> list[str]:
    """The listed words in a word, in all disguises except symbols and gaps."""
    return _plain(word) or _glued(word) or _without_vowels(word) or _reversed(word)


def _plain(word: str) -> list[str]:
    readings = [word, _THRICE.sub(r"\1", word), _THRICE.sub(r"\1\1", word)]
    if len(word) % 2 == 0 and not _TWICE.sub("", word):
        readings.append(word[::2])
    return [_forms()[each] for each in readings if each in _forms()][:1]


def _glued(word: str) -> list[str]:
    if not LEAST_LETTERS < len(word) <= LONGEST or frequency(word) >= KNOWN:
        return []
    for match in _inside().finditer(word):
        before, after = word[: match.start(1)], word[match.end(1) :]
        if _is_word(before) and _is_word(after.removeprefix("s") if match[1] + "s" in _forms() else after):
            return [match[1]]
    return []


def _is_word(rest: str) -> bool:
    return not rest or (len(rest) > 1 and frequency(rest) >= COMMON)


def _without_vowels(word: str) -> list[str]:
    if len(word) < LEAST_CONSONANTS or frequency(word) >= COMMON - 0.5:
        return []
    return [_skeletons()[word]] if word in _skeletons() else []


def _reversed(word: str) -> list[str]:
    if len(word) < LEAST_LETTERS or frequency(word) + KNOWN > frequency(word[::-1]):
        return []
    return _plain(word[::-1])


def _censored(chunk: str) -> list[str]:
    """Listed words whose letters are hidden with * or # in a chunk: f**k."""
    hidden = re.escape(chunk).replace(r"\*", "[a-z]").replace(r"\#", "[a-z]")
    shown = sum(map(str.isalpha, chunk))
    if shown < 1 or shown < len(chunk) / 3 or not re.fullmatch(r"[a-z*#]+", chunk):
        return []
    pattern = re.compile(hidden)
    return [word for word in _forms() if len(word) == len(chunk) and pattern.fullmatch(word)][:1]


@cache
def _phrase_pattern() -> re.Pattern[str]:
    phrases = sorted((word for word in listed() if " " in word), key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, phrases)) + r")\b")


@cache
def listed() -> frozenset[str]:
    from glin_profanity.data.dictionary import dictionary

    return frozenset(dictionary.get_words("english")).difference(words.MILD_WORDS) | words.MORE_SLURS


@cache
def _forms() -> dict[str, str]:
    """Word or plural -> the listed word."""
    single = sorted(word for word in listed() if word.isalpha())
    return {plural(word): word for word in single} | {word: word for word in single}


@cache
def _inside() -> re.Pattern[str]:
    """The listed words that are searched inside others; a lookahead, so that they may overlap."""
    long = sorted((word for word in set(_forms().values()) if len(word) >= LEAST_LETTERS), key=len, reverse=True)
    return re.compile(f"(?=({'|'.join(long)}))")


@cache
def _skeletons() -> dict[str, str]:
    """The consonants of a listed word, unchanged and without double letters -> the word."""
    known: dict[str, str] = {}
    for form, word in _forms().items():
        bones = form.translate(_VOWELS)
        for each in (bones, _TWICE.sub(r"\1", bones)):
            is_abbreviation = word in words.MORE_SLURS and frequency(each) >= KNOWN  # yds
            if LEAST_CONSONANTS <= len(each) < len(form) and not is_abbreviation:
                known.setdefault(each, word)
    return known


def plural(word: str) -> str:
    """
    >>> plural("cat"), plural("lady"), plural("boss"), plural("toy")
    ('cats', 'ladies', 'bosses', 'toys')
    """
    if re.search("[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search("(?:s|x|z|sh|ch)$", word) else "s")
