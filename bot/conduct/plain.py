"""plain: normalize text for the patterns of conduct: lower-case words in one spelling each."""

from __future__ import annotations

import re

from bot import markdown
from bot.conduct.letters import latin, without_masks

_APOSTROPHES = dict.fromkeys(map(ord, "'’‘`´ʼ"))
_WITHIN_WORDS = re.compile("(?<=\\w)[\u00ad\u180e\u200b-\u200d\u2060\ufeff]+(?=\\w)")  # they have no width
_REPEATED = re.compile(r"([a-z])\1{2,}")
_SPELLINGS = {
    "i am": "im", "i m": "im", "do not": "dont", "dnt": "dont", "does not": "doesnt", "did not": "didnt", "is not": "isnt",
    "are not": "arent", "was not": "wasnt", "were not": "werent", "will not": "wont", "would not": "wouldnt", "could not": "couldnt",
    "can not": "cant",
    "cannot": "cant", "have not": "havent", "has not": "hasnt", "should not": "shouldnt", "any more": "anymore", "gonna": "going to",
    "wanna": "want to", "tryna": "trying to", "gotta": "have to", "wana": "want to", "pls": "please", "plz": "please", "plese": "please",
    "u": "you", "ur": "your", "r": "are", "rn": "right now", "tonite": "tonight", "2nite": "tonight", "tmrw": "tomorrow", "tmr": "tomorrow",
    "cuz": "because", "bc": "because", "cos": "because", "coz": "because", "becuase": "because", "sry": "sorry", "some one": "someone",
    "my self": "myself", "dieing": "dying", "wnat": "want", "nobdy": "nobody", "every one": "everyone", "mommy": "mom", "mummy": "mum",
    "daddy": "dad", "nothin": "nothing", "everythings": "everything is", "theres": "there is", "whos": "who is", "thats": "that is",
}  # fmt: skip
_SPELLED = re.compile(rf"\b(?:{'|'.join(map(re.escape, _SPELLINGS))})\b")
_APART = re.compile(r"[^\w\s.,!?;:…]+|_+")
_SENTENCE_END = re.compile(r"(?<![.!?…])[.!?…]++(?=\s|$)|[;\n]+")


def plain(body: str, quotes: bool = True) -> str:
    """The words of a Reddit body in lower case, with the punctuation that ends clauses. Markdown, apostrophes and brackets are removed;
    look-alike letters, digits within words and contractions are replaced. quotes: include quoted text.

    >>> plain("I **can't** do su1cide, I'm ѕо [tired](http://a.b)!")
    'i cant do suicide, im so tired!'
    """
    shown = without_masks(latin(markdown.unmarked(_WITHIN_WORDS.sub("", body), quotes)).lower().translate(_APOSTROPHES))
    shown = _REPEATED.sub(r"\1\1", shown)
    lines = (" ".join(line.split()) for line in _APART.sub(" ", shown).split("\n"))
    return _SPELLED.sub(lambda word: _SPELLINGS[word[0]], "\n".join(line for line in lines if line))


def sentences(words: str) -> list[str]:
    """The sentences of `plain` text, without the punctuation at their ends.

    >>> sentences("no bots. humans only\\nthanks, all!")
    ['no bots', 'humans only', 'thanks, all']
    """
    return [each for part in _SENTENCE_END.split(words) if (each := part.strip(" ,.:"))]


def joined(parts: list[str], short: int = 3, most: int = 12) -> list[str]:
    """Sentences of at most `short` words joined to the sentence before, as long as the result has at most `most` words.

    >>> joined(["im done", "with everything", "with me", "the book is about a long journey by train"])
    ['im done with everything with me', 'the book is about a long journey by train']
    """
    result: list[str] = []
    for part in parts:
        words = part.count(" ") + 1
        if result and words <= short and result[-1].count(" ") + 1 + words <= most:
            result[-1] = f"{result[-1]} {part}"
        else:
            result.append(part)
    return result


def windows(piece: str, words: int = 60, step: int = 40) -> list[str]:
    """Split a text into overlapping parts of at most `words` words. A short text is returned unchanged.

    >>> windows("a b c d e", words=3, step=2)
    ['a b c', 'c d e']
    """
    all_words = piece.split(" ")
    starts = range(0, max(len(all_words) - words, 0) + step, step) if len(all_words) > words else [0]
    return [" ".join(all_words[start : start + words]) for start in starts]
