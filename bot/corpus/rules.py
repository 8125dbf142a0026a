"""The rules by which `prepare` drops a reply, in their order; prepare.py's docstring lists them. A new rule is a line in `keep`."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from rapidfuzz.distance import Levenshtein
from rensa import RMinHash, RMinHashLSH  # type: ignore[import-untyped]
from rich.progress import track

from bot import text
from bot.schema import Pair

SUBMISSION_CHARACTERS = 600  # of a submission's title and text, when that is what was replied to
SHORTEST_REPLY, LONGEST_REPLY = 2, 1000  # characters, after cleaning
COPY_PASTA_CHARACTERS = 40  # a text this long seen word for word again is a copy, not a coincidence
NEAR_DUPLICATE_WORDS = 10  # two people find the same nine words, or all but one: «Congratulations! I'm so happy for you»
NEAR_DUPLICATE_SHARE = 0.8  # of the words; see near_duplicate
SKETCH_HASHES, SKETCH_BANDS = 64, 16  # two texts that share 0.6 of their pairs of words meet in a band of 4 hashes with 0.89, 0.7: 0.99
EXPLAINED_CHARACTERS = 110  # of a text that --explain shows

_WORD = re.compile(r"[^\W_]+")
_BOT_SAYS_SO = re.compile(text.BOT_SAYS_SO)


# --- rules that look at one row, cleaned -------------------------------------------------------------------------------------


def deleted(pair: Pair) -> bool:
    """Reddit put its mark in the place of comment or reply.

    >>> deleted(_pair("why", "[removed]")), deleted(_pair("why", "it was removed"))
    (True, False)
    """
    return any(body and text.is_deleted(body) for body in (pair.comment, pair.reply))


def nothing_left(pair: Pair) -> bool:
    """Nothing is left of comment or reply: it was only a quote, a link or an image.

    >>> nothing_left(clean_pair(_pair("why", "> why"))), nothing_left(clean_pair(_pair("why", "> why\\n\\nwhy not")))
    (True, False)
    """
    return not pair.comment or not pair.reply


def bot_notice(pair: Pair) -> bool:
    """Comment or reply says that it is a bot's; accounts whose names say so are left out by `extract` already.

    >>> bot_notice(_pair("why", "I am a bot, and this action was performed automatically."))
    True
    >>> bot_notice(_pair("are you a bot?", "I'm not a bot"))
    False
    """
    return bool(_BOT_SAYS_SO.search(pair.comment) or _BOT_SAYS_SO.search(pair.reply))


def too_short(pair: Pair) -> bool:
    return len(pair.reply) < SHORTEST_REPLY


def too_long(pair: Pair) -> bool:
    return len(pair.reply) > LONGEST_REPLY or len(pair.comment) >= text.UNANSWERABLE_LENGTH


def mostly_not_letters(pair: Pair) -> bool:
    """Fewer than half of the reply's characters, spaces aside, are letters: tables, ASCII art, code.

    >>> mostly_not_letters(_pair("why", "(╯°□°)╯ ┻━┻")), mostly_not_letters(_pair("why", "Because 42."))
    (True, False)
    """
    visible = pair.reply.replace(" ", "")
    return sum(map(str.isalpha, visible)) * 2 < len(visible)


def parroted(pair: Pair) -> bool:
    """The reply says the comment again, but for case and punctuation.

    >>> parroted(_pair("So it's you!", "so its YOU")), parroted(_pair("So it's you!", "So it's me!"))
    (True, False)
    """
    said = _letters(pair.reply)
    # The start first: comments are long, and nearly none starts as its reply does.
    return said.startswith(_letters(pair.comment[:20])) and said == _letters(pair.comment)


def not_english(pair: Pair) -> bool:
    """The reply is surely in another language, see `text.is_surely_not`.

    >>> not_english(_pair("why", "Das weiß ich leider auch nicht, aber frag doch morgen noch einmal."))
    True
    >>> not_english(_pair("why", "idk lol, ask again tomorrow maybe?")), not_english(_pair("why", "¡Hola!"))
    (False, False)
    """
    return text.is_surely_not(pair.reply, "en")


# --- rules that look at all replies, cleaned and in order; the first of those alike is kept ---------------------------------------------


def copy_pasta(replies: Sequence[str]) -> list[bool]:
    """Which replies are, letter for letter, one that came earlier. Short ones may be: «Thank you!»

    >>> copy_pasta(["This is the same old story, copied around.", "Ha!", "this is the same old story -- copied around", "Ha!"])
    [False, False, True, False]
    """
    seen: set[str] = set()
    repeated = []
    for reply in replies:
        said = _letters(reply) if len(reply) >= COPY_PASTA_CHARACTERS else ""
        repeated.append(said in seen)
        if said:
            seen.add(said)
    return repeated


def near_duplicate(replies: Sequence[str]) -> list[bool]:
    """Which replies are, but for a fifth of the words (inserted, left out or changed), one that came earlier and isn't such itself.

    A share of 0.8 is what Lee et al. 2022 (arXiv:2107.06499) hold two texts of training data for near-duplicates at: edit similarity of
    the words. On our replies nearly all pairs above it are edited copies, forms filled in and one person's phrases; below it they are two
    sentences of one pattern («… and I still get these emails»). MinHash over pairs of words finds the candidates (of these pairs it
    misses 1 in 70), and their words decide, so that nothing is dropped on an estimate. Words hash the same in every process.

    >>> story = "my first job was in a bakery and I got up at three every day"
    >>> near_duplicate([story, story + " lol", story.replace("first job", "last job")])
    [False, True, True]
    >>> near_duplicate([story, "my first dog was in a kennel and I got it at two every year"])
    [False, False]
    """
    repeated = [False] * len(replies)
    index = RMinHashLSH(NEAR_DUPLICATE_SHARE, SKETCH_HASHES, SKETCH_BANDS)
    for start in track(range(0, len(replies), 10_000), description="near-duplicates", transient=True, disable=len(replies) < 10_000):
        words = {number: _words(replies[number]) for number in range(start, min(start + 10_000, len(replies)))}
        words = {number: said for number, said in words.items() if len(said) >= NEAR_DUPLICATE_WORDS}
        sketches = RMinHash.from_token_sets([[f"{one} {two}" for one, two in pairwise(said)] for said in words.values()], SKETCH_HASHES, 1)
        for (number, said), sketch in zip(words.items(), sketches, strict=True):
            repeated[number] = any(_same_words(said, _words(replies[earlier])) for earlier in index.query(sketch))
            if not repeated[number]:
                index.insert(number, sketch)
    return repeated


# In the order in which they apply; not_english is applied only when asked for.
ROW_RULES: tuple[Callable[[Pair], bool], ...] = (
    deleted, nothing_left, bot_notice, too_short, too_long, mostly_not_letters, parroted, not_english,
)  # fmt: skip
REPLY_RULES: tuple[Callable[[Sequence[str]], list[bool]], ...] = (copy_pasta, near_duplicate)


def clean_pair(pair: Pair) -> Pair:
    comment = text.clean(pair.comment)
    if pair.comment_id.startswith("t3_"):
        comment = comment[:SUBMISSION_CHARACTERS]
    return replace(pair, comment=comment.strip(), reply=text.clean(pair.reply))


def keep(pairs: Iterable[Pair], english_only: bool = False) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """Cleaned pairs that no rule drops; and for every rule, in the order in which they apply, what it dropped, as it was read.

    A pair is dropped once, by the first rule that applies.
    """
    row_rules = [rule for rule in ROW_RULES if english_only or rule is not not_english]
    dropped: dict[str, list[Pair]] = {rule.__name__: [] for rule in (*row_rules, *REPLY_RULES)}
    kept: list[Pair] = []
    read: list[Pair] = []
    for pair in pairs:
        cleaned = clean_pair(pair)
        rule = next((rule.__name__ for rule in row_rules if rule(cleaned)), None)
        if rule:
            dropped[rule].append(pair)
        else:
            kept.append(cleaned)
            read.append(pair)
    for reply_rule in REPLY_RULES:
        repeated = reply_rule([pair.reply for pair in kept])
        dropped[reply_rule.__name__] += [pair for pair, drop in zip(read, repeated, strict=True) if drop]
        read = [pair for pair, drop in zip(read, repeated, strict=True) if not drop]
        kept = [pair for pair, drop in zip(kept, repeated, strict=True) if not drop]
    return kept, dropped


def explain(dropped: dict[str, list[Pair]], number: int) -> list[str]:
    """Lines that show at most `number` dropped pairs of each rule that dropped any, drawn from all of them, in their order."""
    lines = []
    for rule, pairs in dropped.items():
        shown = sorted(random.Random(0).sample(range(len(pairs)), min(number, len(pairs))))
        if shown:
            lines += ["", f"{rule}: {len(shown)} of {len(pairs):,}"]
        for pair in (pairs[place] for place in shown):
            lines += [
                f"  {pair.reply_id} in r/{pair.subreddit}",
                f"    comment: {_one_line(pair.comment)}",
                f"    reply:   {_one_line(pair.reply)}",
            ]
    return lines


def _words(body: str) -> list[str]:
    """Words without case and apostrophes, which people type in two ways or not at all.

    >>> _words("Don’t you, Mr_X?"), _words("DON'T")
    (['dont', 'you', 'mr', 'x'], ['dont'])
    """
    return _WORD.findall(body.casefold().replace("'", "").replace("’", ""))


def _letters(body: str) -> str:
    """Letters and digits, whatever their case; casefold, since `lower` looks at a letter's neighbours."""
    return "".join(_words(body))


def _same_words(one: list[str], two: list[str]) -> bool:
    return Levenshtein.normalized_similarity(one, two, score_cutoff=NEAR_DUPLICATE_SHARE) >= NEAR_DUPLICATE_SHARE


def _one_line(body: str) -> str:
    """Short enough for a line, and without characters that a terminal obeys."""
    line = " ".join("".join(character if character.isprintable() else " " for character in body).split())
    return line if len(line) <= EXPLAINED_CHARACTERS else line[: EXPLAINED_CHARACTERS - 1] + "…"


def _pair(comment: str, reply: str) -> Pair:
    return Pair("s", "t3_1", "", None, "t1_1", comment, None, None, "t1_2", reply, None, None, None)
