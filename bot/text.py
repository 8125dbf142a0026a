"""Pure text: cleaning, the training text and its prompt, the split of threads and their halves.

`format_training_text` and `format_prompt` are the only two places that build model input for a generator; the prompt is a prefix of the
training text, character by character and token by token, and exactly one separator stands in every training text.
"""

from __future__ import annotations

import hashlib
import html
import re
from functools import cache
from typing import Any

SEPARATOR = "[SEP]"
# An empty body, and what Reddit puts in the place of one that was deleted. This and the next are in RE2's syntax too, since the query of
# `extract` uses them.
DELETED_BODY = r"(?i)^\s*(?:\[deleted\]|\[removed\]|\[ removed by reddit \]|\[deleted by user\])?\s*$"
UNANSWERABLE_LENGTH = 10_000  # characters: Reddit's own limit for a comment
# Names that bots give themselves: something_bot, something-bot, SomethingBot. «Talbot» is a person.
BOT_NAME = r"(?i:^automoderator$|^bot$|[_-]bot[_-]?\d*$)|[a-z0-9]Bot\d*$"
# What bots say of themselves, in cleaned text; «I'm not a bot» and «is this a bot?» are a person's words.
BOT_SAYS_SO = (
    r"(?i)\bI(?:['’]| a)m a (?:\w+ )?bot\b|\baction was performed automatically\b|\bbl?eep,?[ -]?bl?oop\b"
    r"|\bthis bot wants to\b|\blook at my source code\b"
)

LANGUAGE_LETTERS, LANGUAGE_CONFIDENCE = 20, 0.9  # see is_surely_not
# «pcm» is Nigerian Pidgin, for which the detector takes informal English; «zxx» is no language: «AAAASDFGH».
TAKEN_FOR_ENGLISH = frozenset({"en", "pcm", "zxx"})

# Everything a tokenizer would read as a control token: GPT-2's and its kin's `<|name|>`, BERT's `[SEP]` and fellows.
_CONTROL = re.compile(r"(<\|)(\\*)([A-Za-z0-9_]+\|>)|(\[)(\\*)((?:SEP|CLS|MASK|PAD|UNK)\])")
# Bidirectional controls can turn a whole terminal line around; they carry no text of their own.
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# C0 and C1 controls, escape sequences among them; tab and line feed are white space.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 controls but for tab and newline: no tokenizer has seen them and some CSV readers choke on them. Reddit's editor leaves a
# zero-width space in every blank line.
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff]")

# Where a link or an image leads: (https://example.org/a_(b) "title")
_TARGET = r"\([ \t]*+(?:[^()\s]|\([^()\s]*\))*(?:[ \t]++\"[^\"\n]*\")?[ \t]*+\)"
# Reddit's markdown in the order in which it is undone: a mark that each match holds, the pattern, and what stays of it.
_MARKDOWN = tuple(
    (mark, re.compile(pattern), plain)
    for mark, pattern, plain in (
        (">", r"(?m)^[ \t]*>(?!!).*$", " "),  # quotes
        (">!", r"(?s)>!(.*?)!<", r"\1"),  # spoilers
        ("```", r"(?m)^[ \t]*`{3,}\w*[ \t]*$", " "),  # fences around code
        ("~~~", r"(?m)^[ \t]*~{3,}\w*[ \t]*$", " "),
        ("![", r"!\[(?:img|gif)\]" + _TARGET, " "),  # Reddit's own name for an uploaded image, an emote or a GIF: nobody wrote it
        ("](", r"!?\[([^\[\]]*+(?:\[[^\[\]]*+\][^\[\]]*+)*+)\]" + _TARGET, r"\1"),  # links and images keep their words
        ("<http", r"<https?://[^\s>]++>", " "),
        ("http", r"https?://\S+", " "),
        ("www.", r"www\.\S+", " "),
        ("", r"(?m)^[ \t]*(?:[*_-][ \t]*){3,}$", " "),  # rulers
        ("", r"(?m)^[ \t]*(?:#{1,6}[ \t]+|[*+-][ \t]+)", ""),  # headings, bullets
        ("`", r"(?<!\\)(`{1,3})(?=\S)(.+?)(?<=\S)\1", r"\2"),
        ("~~", r"(?<!\\)~~(?=\S)(.+?)(?<![\s\\])~~", r"\1"),
        ("*", r"(?<!\\)(\*{1,3})(?=\S)(.+?)(?<![\s\\])\1", r"\2"),
        ("_", r"(?<![\w\\])(_{1,2})(?=\S)(.+?)(?<![\s\\])\1(?!\w)", r"\2"),
        ("^(", r"(?<![\w)\\])\^++\(([^()\n]*+)\)", r"\1"),  # raised: ^(these words)
        ("^", r"(?<![^\s(])\^++(?=[^\W_][^\s^]*+(?:\s|$))", ""),  # ^this, but not 2^6 and not the face ^_^
        ("\\", r"\\([\\`*_{}\[\]()#+\-.!~>^|])", r"\1"),
    )
)
_TABLE_RULE = re.compile(r"(?m)^(?=[^\n|]*+\|)(?=[^\n-]*+-)[|: \t-]++$")  # the line under a table's head: |:-|-:|


def well_formed(text: str) -> str:
    """The text with lone surrogates replaced by U+FFFD, so that UTF-8 can hold it.

    >>> well_formed("a\\ud800b") == "a\\ufffdb"
    True
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def printable(body: str) -> str:
    """Text that a terminal shows and does not obey: one line, no control characters.

    >>> printable(" a\\n\\tb \\x1b[31mred")
    'a b [31mred'
    """
    return " ".join(BIDI.sub("", UNPRINTABLE.sub(" ", body)).split())


def is_deleted(body: str) -> bool:
    """True for a body that is empty or that Reddit put in a removed body's place.

    >>> is_deleted(" [removed] "), is_deleted("I removed it")
    (True, False)
    """
    return re.search(DELETED_BODY, body) is not None


def fingerprint(body: str) -> str:
    """The same for two bodies that differ in white space alone: sha256, in hexadecimal digits.

    >>> fingerprint("a  b\\n") == fingerprint("a b"), fingerprint("a b") == fingerprint("ab")
    (True, False)
    """
    return hashlib.sha256(" ".join(well_formed(body).split()).encode()).hexdigest()


def discloses(body: str) -> bool:
    """True for a text that says that a bot wrote it, and how to stop it: the line below each of the bot's replies does.

    >>> discloses("I am a bot. Reply `!stop` and I am gone."), discloses("I am a bot.")
    (True, False)
    """
    return "!stop" in body and re.search(BOT_SAYS_SO, body) is not None


def clean(body: str) -> str:
    """A Reddit body as plain text on one line: entities and markdown undone, quoted parents, links, images and control characters left out.

    The result has no leading, trailing or doubled white space and `clean(clean(x)) == clean(x)` may not hold for text that spells out
    entities (`&amp;amp;`): run it once.

    >>> clean("&gt; you said\\n\\nI *agree*, see [this](http://a.b/c) &amp; http://d.e")
    'I agree, see this &'
    """
    text = html.unescape(html.unescape(well_formed(body)) if "&amp;" in body else well_formed(body))  # old dumps escape twice
    text = _CONTROL_CHARACTERS.sub(" ", well_formed(text).replace("\r", "\n"))
    for mark, pattern, plain in _MARKDOWN:
        if mark in text:  # most bodies have none, and a search for one mark takes a hundredth of the pattern's time
            text = pattern.sub(plain, text)
    if "|" in text and _TABLE_RULE.search(text):
        text = _TABLE_RULE.sub(" ", text).replace("|", " ")
    return " ".join(text.split())


def language(body: str) -> str | None:
    """The language of a text (ISO 639-1), None where it is too short to tell or the detector isn't sure.

    >>> language("Das weiß ich leider auch nicht, aber frag doch morgen noch einmal."), language("¡Hola!")
    ('de', None)
    """
    if sum(map(str.isalpha, body)) < LANGUAGE_LETTERS:
        return None
    found, confidence = _language_detector().rank(body)[0]
    if confidence < LANGUAGE_CONFIDENCE:
        return None
    return "en" if found in TAKEN_FOR_ENGLISH else str(found)


def is_surely_not(body: str, language: str) -> bool:
    """True for a text that is long enough to tell, and that the detector is sure isn't in this language.

    Sure: the three likeliest languages, this one not among them, have 0.9 of the probability; Russian or Bulgarian needn't be told apart.
    py3langid was chosen on 440,000 cleaned replies, nearly all English. Of 20 letters and more it takes 125 for another language, of which
    6 are English around foreign words, one is «AAAHAHA», and none is plain English; between 0.8 and 0.9 more than half would be wrong.
    pycld2 takes 294 and fastText's lid.176.ftz (at 0.8) 276, about half of them English («She came. You saw. She conquered.», «im already
    in college lol»).

    >>> is_surely_not("Das weiß ich leider auch nicht, aber frag doch morgen noch einmal.", "en"), is_surely_not("¡Hola!", "en")
    (True, False)
    """
    if sum(map(str.isalpha, body)) < LANGUAGE_LETTERS:
        return False
    same = TAKEN_FOR_ENGLISH if language == "en" else {language, "zxx"}
    ranked = _language_detector().rank(body)
    return ranked[0][0] not in same and sum(share for found, share in ranked[:3] if found not in same) >= LANGUAGE_CONFIDENCE


@cache
def _language_detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def escape(text: str) -> str:
    """Take the power from control tokens typed by a user, reversibly: one backslash goes inside each.

    >>> escape("a [SEP] b <|endoftext|>")
    'a [\\\\SEP] b <|\\\\endoftext|>'
    """
    return _CONTROL.sub(lambda m: f"{m[1]}\\{m[2]}{m[3]}" if m[1] else f"{m[4]}\\{m[5]}{m[6]}", text)


def unescape(text: str) -> str:
    """Undo `escape`; a control token without a backslash stays.

    >>> unescape(escape("[SEP] [\\\\SEP]")) == "[SEP] [\\\\SEP]"
    True
    """
    return _CONTROL.sub(lambda m: f"{m[1]}{m[2][1:]}{m[3]}" if m[1] else f"{m[4]}{m[5][1:]}{m[6]}", text)


def format_prompt(comment: str) -> str:
    """What a generator is given: no trailing space, since GPT-2's tokens carry the space before a word.

    >>> format_prompt("Any good books?")
    'Any good books? [SEP]'
    """
    return f"{' '.join(escape(comment).split())} {SEPARATOR}"


def format_training_text(comment: str, reply: str) -> str:
    """One training row. Start and end tokens are the tokenizer's business (gpt-2-simple's loader adds its own).

    >>> format_training_text("Any good books?", "Dune.")
    'Any good books? [SEP] Dune.'
    """
    return f"{format_prompt(comment)} {' '.join(escape(reply).split())}"


def parse_reply(generated: str) -> str:
    """The reply in what a generator wrote after the prompt: up to a second separator or an end token, on one line, unescaped.

    >>> parse_reply(" Dune, [\\\\SEP] and all. [SEP] More")
    'Dune, [SEP] and all.'
    """
    first = re.split(r"\[SEP\]|<\|(?:endoftext|startoftext|im_end|im_start)\|>", generated, maxsplit=1)[0]
    return " ".join(unescape(well_formed(first)).split())


def split_for(thread_id: str) -> str:
    """train, val or test (90 / 5 / 5) by a stable hash of the thread, so that no thread stands in two splits.

    >>> split_for("t3_abc"), split_for("t3_abc")
    ('train', 'train')
    """
    bucket = _hash(thread_id) % 100
    return "train" if bucket < 90 else "val" if bucket < 95 else "test"


def half_for(thread_id: str) -> str:
    """rankers or judge: who learns from the thread. By another hash than the split's, so that each split has threads of both halves.

    What rankers pick is judged by models (judge.py) that saw none of their training threads.

    >>> half_for("t3_abc"), half_for("t3_1")
    ('judge', 'rankers')
    """
    return "judge" if _hash("half of " + thread_id) % 2 else "rankers"


def _hash(words: str) -> int:
    """The same everywhere and always, unlike Python's own."""
    return int.from_bytes(hashlib.sha256(words.encode("utf-8", "replace")).digest()[:8], "big")
