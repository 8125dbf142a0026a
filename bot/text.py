"""Text functions: cleaning, training text and prompt, and the split of threads. Pure functions.

Only `format_training_text` and `format_prompt` build model input for a generator. The prompt is a prefix of the training text, by
characters and by tokens, and every training text contains exactly one separator.
"""

from __future__ import annotations

import hashlib
import html
import re
import unicodedata
from bisect import bisect_left
from functools import cache
from typing import Any, NamedTuple

SEPARATOR = "[SEP]"
# An empty body, or Reddit's placeholder for a deleted one. This pattern and BOT_NAME are also valid RE2, since the query of `extract` uses
# them.
DELETED_BODY = r"(?i)^\s*(?:\[deleted\]|\[removed\]|\[ removed by reddit \]|\[deleted by user\])?\s*$"
NOTICE_LENGTH = 500  # characters; scripts that overwrite comments may append an advertisement
_BRACKETED = re.compile(r"\[[^\[\]]*+(?:\[[^\[\]]*+\](?:\([^()]*+\))?[^\[\]]*+)*+\]")  # may contain a link
_OVERWRITTEN = re.compile(
    r"(?is)[<({]?\s*(?:(?:this|the|my|your|all)\s+)?(?:(?:old|original)\s+)?"
    r"(?:comments?|posts?|contents?|messages?|replies|text|submission|thread|account)?\s*(?:has been|have been|was|were|is|got)?\s*"
    r"(?:mass |automatically |permanently |since )?"
    r"(?:deleted|removed|overwritten|redacted|erased|wiped|unavailable|(?:edited|changed|replaced)(?= in protest))"
    r"(?:\s*[)>}.!]*\s*\Z|\s+(?:by|with|using|via|at the request of)\s+(?:an? |the |its |their |this "
    r"|reddit|redact|mods?\b|moderat|user\b|author|admin|automod|power|shreddit|me\b)"
    r"|\s+(?:in protest|in response to|to protect|due to|for violat|because of))"
    r"|(?:i have |i've )?(?:chosen to )?overwrit(?:e|ten)\s+(?:this|all|my)\b"
)
UNANSWERABLE_LENGTH = 10_000  # characters: Reddit's own limit for a comment
# User names of bots: something_bot, something-bot, SomethingBot; but not "Talbot".
BOT_NAME = r"(?i:^automoderator$|^bot$|[_-]bot[_-]?\d*$)|[a-z0-9]Bot\d*$"
# Typical statements of bots, in cleaned text. "I'm not a bot" and "is this a bot?" do not match.
BOT_SAYS_SO = (
    r"(?i)\bI(?:['’]| a)m a (?:\w+ )?bot\b|\baction was performed automatically\b|\bbl?eep,?[ -]?bl?oop\b"
    r"|\bthis bot wants to\b|\blook at my source code\b"
)

LANGUAGE_LETTERS, LANGUAGE_CONFIDENCE = 20, 0.9  # see is_surely_not
# The detector labels some informal English as "pcm" (Nigerian Pidgin); "zxx" means no linguistic content ("AAAASDFGH").
COUNTED_AS_ENGLISH = frozenset({"en", "pcm", "zxx"})

# Texts that a tokenizer would read as control tokens: `<|name|>` of GPT-2 and similar models, `[SEP]` and others of BERT.
_CONTROL = re.compile(r"(<\|)(\\*)([A-Za-z0-9_]+\|>)|(\[)(\\*)((?:SEP|CLS|MASK|PAD|UNK)\])")
# Bidirectional controls, which can reverse a whole terminal line and have no visible text.
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# C0 and C1 controls, including those of escape sequences, but not tab and line feed.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# C0 and C1 controls except tab and newline: tokenizers have not seen them and some CSV readers fail on them. Reddit's editor puts a
# zero-width space into every blank line.
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\ufeff]")

# The target of a link or an image: (https://example.org/a_(b) "title")
_TARGET = r"\([ \t]*+(?:[^()\s]|\([^()\s]*\))*(?:[ \t]++\"[^\"\n]*\")?[ \t]*+\)"


def _patterns(*rows: tuple[str, str, str]) -> tuple[tuple[str, re.Pattern[str], str], ...]:
    return tuple((mark, re.compile(pattern), plain) for mark, pattern, plain in rows)


# Reddit's Markdown in the order in which it is removed: a mark that every match contains, the pattern, and the replacement. Spoilers are
# removed first, other paired marks (_PAIRS) after the blocks.
_QUOTE_MARKS = re.compile(r"(?m)^[ \t]*(?:>(?!!)[ \t]*)+")
_QUOTES = re.compile(r"(?m)^[ \t]*>(?!!).*$")
_BLOCKS = _patterns(
    ("```", r"(?m)^[ \t]*`{3,}\w*[ \t]*$", " "),  # fences around code
    ("~~~", r"(?m)^[ \t]*~{3,}\w*[ \t]*$", " "),
    ("![", r"!\[(?:img|gif)\]" + _TARGET, " "),  # Reddit's own name for an uploaded image, an emote or a GIF
    ("](", r"!?\[([^\[\]]*+(?:\[[^\[\]]*+\][^\[\]]*+)*+)\]" + _TARGET, r"\1"),  # links and images: keep the text
    ("<http", r"<https?://[^\s>]++>", " "),
    ("http", r"https?://\S+", " "),
    ("www.", r"www\.\S+", " "),
    ("", r"(?m)^[ \t]*(?:[*_-][ \t]*){3,}$", " "),  # rulers
    ("", r"(?m)^[ \t]*(?:#{1,6}[ \t]+|[*+-][ \t]+)", ""),  # headings, bullets
)
_REST = _patterns(
    ("^(", r"(?<![\w)\\])\^++\(([^()\n]*+)\)", r"\1"),  # superscript: ^(these words)
    ("^", r"(?<![^\s(])\^++(?=[^\W_][^\s^]*+(?:\s|$))", ""),  # ^this, but not 2^6 and ^_^
    ("\\", r"\\([\\`*_{}\[\]()#+\-.!~>^|])", r"\1"),
)


class _Pair(NamedTuple):
    """Paired marks. opening: pattern of the opening mark; closings: the marks, longest first, with a zero-width pattern for the end."""

    opening: re.Pattern[str]
    closings: tuple[tuple[str, str, re.Pattern[str]], ...]  # opening mark, closing mark, where it may close
    across_lines: bool = False


def _same(mark: str, longest: int, opening: str, closing: str) -> _Pair:
    """Pairs of a mark that is repeated up to `longest` times. closing: patterns before and after the closing mark, separated by a space."""
    before, _, after = closing.partition(" ")
    marks = [mark * length for length in range(longest, 0, -1)]
    return _Pair(
        re.compile(opening + re.escape(mark)), tuple((each, each, re.compile(f"{before}(?={re.escape(each)}{after})")) for each in marks)
    )


_SPOILER = _Pair(re.compile(">!"), ((">!", "!<", re.compile("(?=!<)")),), across_lines=True)
_PAIRS = (
    _same("`", 3, r"(?<!\\)", r"(?<=\S)"),
    _same("~~", 1, r"(?<!\\)", r"(?<![\s\\])"),
    _same("*", 3, r"(?<!\\)", r"(?<![\s\\])"),
    _same("_", 2, r"(?<![\w\\])", r"(?<![\s\\]) (?!\w)"),
)
_TABLE_RULE = re.compile(r"(?m)^(?=[^\n|]*+\|)(?=[^\n-]*+-)[|: \t-]++$")  # the line below a table header: |:-|-:|


def well_formed(text: str) -> str:
    """Replace lone surrogates by U+FFFD, so that the text can be encoded as UTF-8.

    >>> well_formed("a\\ud800b") == "a\\ufffdb"
    True
    """
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def printable(body: str) -> str:
    """The text on one line and without control characters, safe to print in a terminal.

    >>> printable(" a\\n\\tb \\x1b[31mred")
    'a b [31mred'
    """
    return " ".join(BIDI.sub("", UNPRINTABLE.sub(" ", body)).split())


def words(body: str) -> list[str]:
    """The words of a text in lower case, without punctuation.

    >>> words("Don't panic: it's 42!")
    ['don', 't', 'panic', 'it', 's', '42']
    """
    return re.findall(r"\w+", body.lower())


def is_deleted(body: str) -> bool:
    """True for an empty body and for Reddit's placeholders for deleted bodies.

    >>> is_deleted(" [removed] "), is_deleted("I removed it")
    (True, False)
    """
    return re.search(DELETED_BODY, body) is not None


def fingerprint(body: str) -> str:
    """The sha256 of a body in hexadecimal digits, ignoring differences in white space.

    >>> fingerprint("a  b\\n") == fingerprint("a b"), fingerprint("a b") == fingerprint("ab")
    (True, False)
    """
    return hashlib.sha256(" ".join(well_formed(body).split()).encode()).hexdigest()


def discloses(body: str) -> bool:
    """True for a text that states that a bot wrote it and how to stop it, as in the line below each of the bot's replies.

    >>> discloses("I am a bot. Reply `!stop` and I am gone."), discloses("I am a bot.")
    (True, False)
    """
    return "!stop" in body and re.search(BOT_SAYS_SO, body) is not None


def is_notice(body: str) -> bool:
    """True for a body that was overwritten: only a notice in brackets, or a sentence that the text was removed, deleted or overwritten.

    False for an empty body.

    >>> is_notice("*[ Removed by Reddit ]*"), is_notice("This comment was overwritten by a script."), is_notice("[edit] a better title")
    (True, True, False)
    """
    shown = unicodedata.normalize("NFKC", body.strip().strip("*_~`^ \t"))
    return len(shown) <= NOTICE_LENGTH and (_BRACKETED.fullmatch(shown) or _OVERWRITTEN.match(shown)) is not None


def is_deleted_by_author(notice: str) -> bool:
    """True if a notice states that the author deleted the text, also by a script; False if a moderator or Reddit removed it.

    >>> is_deleted_by_author("[deleted]"), is_deleted_by_author("[ Removed by Reddit ]")
    (True, False)
    """
    return re.search(r"(?i)delet|overwr|redact|gel\u00f6scht|erased|wiped", notice) is not None


def clean(body: str) -> str:
    """Convert a Reddit body to plain text on one line, without entities, Markdown, quotes, link targets, images and control characters.

    The result has no leading, trailing or doubled white space. Call it only once: `clean(clean(x)) == clean(x)` does not always hold for
    text that spells out entities (`&amp;amp;`).

    >>> clean("&gt; you said\\n\\nI *agree*, see [this](http://a.b/c) &amp; http://d.e")
    'I agree, see this &'
    """
    return " ".join(unmarked(body).split())


def unmarked(body: str, quotes: bool = False) -> str:
    """Like `clean`, but keeps lines and white space. quotes: keep quoted lines.

    >>> unmarked("> you said\\n\\nI *agree*", quotes=True)
    'you said\\n\\nI agree'
    """
    text = html.unescape(html.unescape(well_formed(body)) if "&amp;" in body else well_formed(body))  # old dumps escape twice
    text = _CONTROL_CHARACTERS.sub(" ", well_formed(text).replace("\r", "\n"))
    if ">" in text:
        text = _QUOTE_MARKS.sub("", text) if quotes else _QUOTES.sub(" ", text)
        text = _unwrap(text, _SPOILER)
    text = _replace(text, _BLOCKS)
    for pair in _PAIRS:
        text = _unwrap(text, pair)
    text = _replace(text, _REST)
    if "|" in text and _TABLE_RULE.search(text):
        text = _TABLE_RULE.sub(" ", text).replace("|", " ")
    return text


def _replace(text: str, patterns: tuple[tuple[str, re.Pattern[str], str], ...]) -> str:
    for mark, pattern, plain in patterns:
        if mark in text:  # most bodies have no mark, and this check is a hundred times faster than the pattern
            text = pattern.sub(plain, text)
    return text


def _unwrap(text: str, pair: _Pair) -> str:
    """Remove paired marks around words, in linear time. (A regular expression would scan the rest of the text for every unclosed mark.)"""
    if pair.closings[-1][0] not in text:
        return text
    ends = {closing: [each.start() for each in where.finditer(text)] for _, closing, where in pair.closings}
    breaks = [] if pair.across_lines else [each.start() for each in re.finditer("\n", text)]
    kept, done, at = [], 0, 0
    while opened := pair.opening.search(text, at):
        at = opened.start() + 1
        for mark, closing, _ in pair.closings:
            begin = opened.start() + len(mark)
            if not text.startswith(mark, opened.start()) or (not pair.across_lines and not text[begin : begin + 1].strip()):
                continue
            place = bisect_left(ends[closing], begin if pair.across_lines else begin + 1)
            end = ends[closing][place] if place < len(ends[closing]) else len(text)
            line = bisect_left(breaks, begin)
            if end < (breaks[line] if line < len(breaks) else len(text)):
                kept += [text[done : opened.start()], text[begin:end]]
                done = at = end + len(closing)
                break
    return "".join([*kept, text[done:]])


def language(body: str) -> str | None:
    """The language of a text (ISO 639-1). None if the text is too short or the detector is not confident.

    >>> language("Das weiß ich leider auch nicht, aber frag doch morgen noch einmal."), language("¡Hola!")
    ('de', None)
    """
    if sum(map(str.isalpha, body)) < LANGUAGE_LETTERS:
        return None
    best, confidence = _language_detector().rank(body)[0]
    if confidence < LANGUAGE_CONFIDENCE:
        return None
    return "en" if best in COUNTED_AS_ENGLISH else str(best)


def is_surely_not(body: str, language: str) -> bool:
    """True if the detector is confident that a text is not in this language. False for texts that are too short.

    Confident means that the three most likely languages, other than this one, have a total probability of at least 0.9; so it does not
    matter whether a text is Russian or Bulgarian. py3langid was selected on 440,000 cleaned replies, nearly all English. Among those with
    at least 20 letters it labels 125 as another language; 6 of these are English with foreign words, one is "AAAHAHA", and none is plain
    English. With a threshold of 0.8 instead, more than half of the additional ones would be wrong. pycld2 labels 294 and fastText's
    lid.176.ftz (threshold 0.8) 276, about half of them English ("She came. You saw. She conquered.", "im already in college lol").

    >>> is_surely_not("Das weiß ich leider auch nicht, aber frag doch morgen noch einmal.", "en"), is_surely_not("¡Hola!", "en")
    (True, False)
    """
    if sum(map(str.isalpha, body)) < LANGUAGE_LETTERS:
        return False
    same = COUNTED_AS_ENGLISH if language == "en" else {language, "zxx"}
    ranked = _language_detector().rank(body)
    return ranked[0][0] not in same and sum(share for name, share in ranked[:3] if name not in same) >= LANGUAGE_CONFIDENCE


@cache
def _language_detector() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped]

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def escape(text: str) -> str:
    """Escape control tokens typed by a user by inserting a backslash into each. `unescape` reverses it.

    >>> escape("a [SEP] b <|endoftext|>")
    'a [\\\\SEP] b <|\\\\endoftext|>'
    """
    return _CONTROL.sub(lambda m: f"{m[1]}\\{m[2]}{m[3]}" if m[1] else f"{m[4]}\\{m[5]}{m[6]}", text)


def unescape(text: str) -> str:
    """Undo `escape`. A control token without a backslash stays unchanged.

    >>> unescape(escape("[SEP] [\\\\SEP]")) == "[SEP] [\\\\SEP]"
    True
    """
    return _CONTROL.sub(lambda m: f"{m[1]}{m[2][1:]}{m[3]}" if m[1] else f"{m[4]}{m[5][1:]}{m[6]}", text)


def format_prompt(comment: str) -> str:
    """The prompt for a generator. It has no trailing space, because GPT-2's tokens include the space before a word.

    >>> format_prompt("Any good books?")
    'Any good books? [SEP]'
    """
    return f"{' '.join(escape(comment).split())} {SEPARATOR}"


def format_training_text(comment: str, reply: str) -> str:
    """The text of one training row, without start and end tokens (the tokenizer or gpt-2-simple's loader adds them).

    >>> format_training_text("Any good books?", "Dune.")
    'Any good books? [SEP] Dune.'
    """
    return f"{format_prompt(comment)} {' '.join(escape(reply).split())}"


def parse_reply(generated: str) -> str:
    """Extract the reply from generated text: everything before a separator or an end token, unescaped and on one line.

    >>> parse_reply(" Dune, [\\\\SEP] and all. [SEP] More")
    'Dune, [SEP] and all.'
    """
    first = re.split(r"\[SEP\]|<\|(?:endoftext|startoftext|im_end|im_start)\|>", generated, maxsplit=1)[0]
    return " ".join(unescape(well_formed(first)).split())


def split_for(thread_id: str) -> str:
    """The split of a thread: train, val or test (90 / 5 / 5), by a stable hash, so that no thread is in two splits.

    >>> split_for("t3_abc"), split_for("t3_abc")
    ('train', 'train')
    """
    bucket = _hash(thread_id) % 100
    return "train" if bucket < 90 else "val" if bucket < 95 else "test"


def half_for(thread_id: str) -> str:
    """The half of a thread: rankers or judge. The hash differs from that of the split, so each split has threads of both halves.

    The judges that evaluate the rankers' choices (evaluate/judges.py) are trained on threads that the rankers have not seen.

    >>> half_for("t3_abc"), half_for("t3_1")
    ('judge', 'rankers')
    """
    return "judge" if _hash("half of " + thread_id) % 2 else "rankers"


def _hash(value: str) -> int:
    """A hash that is the same in every process, unlike Python's `hash`."""
    return int.from_bytes(hashlib.sha256(value.encode("utf-8", "replace")).digest()[:8], "big")
