"""The rules by which `prepare` drops replies. See the docstring of prepare.py for the list, and ROW_RULES and REPLY_RULES for the order."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from rapidfuzz.distance import Levenshtein
from rensa import RMinHash, RMinHashLSH  # type: ignore[import-untyped]

from bot import cli, text
from bot.schema import Pair

SUBMISSION_CHARACTERS = 600  # of the title and text of a submission that is replied to
MIN_REPLY, MAX_REPLY = 2, 1000  # characters, after cleaning
COPY_PASTA_CHARACTERS = 40  # shorter texts may be equal by coincidence
NEAR_DUPLICATE_WORDS = 10  # shorter texts may be similar by coincidence, e.g. "Congratulations! I'm so happy for you"
NEAR_DUPLICATE_SHARE = 0.8  # of the words; see near_duplicate
SKETCH_HASHES, SKETCH_BANDS = 64, 16  # texts that share 0.6 of their word pairs meet in a band of 4 hashes with probability 0.89; 0.7: 0.99
EXPLAINED_CHARACTERS = 110  # of a text, with --explain

_WORD = re.compile(r"[^\W_]+")
_BOT_SAYS_SO = re.compile(text.BOT_SAYS_SO)


# --- rules for a single cleaned row ------------------------------------------------------------------------------------------


def deleted(pair: Pair) -> bool:
    """Comment or reply is nothing but a notice in the place of a deleted text (text.DELETED_BODY).

    >>> deleted(_pair("why", "[removed]")), deleted(_pair("why", "it was removed"))
    (True, False)
    """
    return any(body and text.is_deleted(body) for body in (pair.comment, pair.reply))


def nothing_left(pair: Pair) -> bool:
    """Comment or reply is empty after cleaning, because it had only quotes, links or images.

    >>> nothing_left(clean_pair(_pair("why", "> why"))), nothing_left(clean_pair(_pair("why", "> why\\n\\nwhy not")))
    (True, False)
    """
    return not pair.comment or not pair.reply


def bot_notice(pair: Pair) -> bool:
    """Comment or reply states that it was written by a bot. (`extract` already drops accounts with names of bots.)

    >>> bot_notice(_pair("why", "I am a bot, and this action was performed automatically."))
    True
    >>> bot_notice(_pair("are you a bot?", "I'm not a bot"))
    False
    """
    return bool(_BOT_SAYS_SO.search(pair.comment) or _BOT_SAYS_SO.search(pair.reply))


def too_short(pair: Pair) -> bool:
    return len(pair.reply) < MIN_REPLY


def too_long(pair: Pair) -> bool:
    return len(pair.reply) > MAX_REPLY or len(pair.comment) >= text.UNANSWERABLE_LENGTH


def mostly_not_letters(pair: Pair) -> bool:
    """Less than half of the reply's characters, not counting spaces, are letters, as in tables, ASCII art and code.

    >>> mostly_not_letters(_pair("why", "(╯°□°)╯ ┻━┻")), mostly_not_letters(_pair("why", "Because 42."))
    (True, False)
    """
    visible = pair.reply.replace(" ", "")
    return sum(map(str.isalpha, visible)) * 2 < len(visible)


def parroted(pair: Pair) -> bool:
    """The reply repeats the comment, except for case and punctuation.

    >>> parroted(_pair("So it's you!", "so its YOU")), parroted(_pair("So it's you!", "So it's me!"))
    (True, False)
    """
    letters = _letters(pair.reply)
    # Compare the start first: it is fast and almost always different.
    return letters.startswith(_letters(pair.comment[:20])) and letters == _letters(pair.comment)


def not_english(pair: Pair) -> bool:
    """The reply is in another language, see `text.is_surely_not`.

    >>> not_english(_pair("why", "Das weiß ich leider auch nicht, aber frag doch morgen noch einmal."))
    True
    >>> not_english(_pair("why", "idk lol, ask again tomorrow maybe?")), not_english(_pair("why", "¡Hola!"))
    (False, False)
    """
    return text.is_surely_not(pair.reply, "en")


# --- rules for all cleaned replies in order; the first of several similar replies is kept -----------------------------------------------


def copy_pasta(replies: Sequence[str]) -> list[bool]:
    """True for replies with the same letters as an earlier reply. Short replies ("Thank you!") are never counted.

    >>> copy_pasta(["This is the same old story, copied around.", "Ha!", "this is the same old story -- copied around", "Ha!"])
    [False, False, True, False]
    """
    seen: set[str] = set()
    repeated = []
    for reply in replies:
        letters = _letters(reply) if len(reply) >= COPY_PASTA_CHARACTERS else ""
        repeated.append(letters in seen)
        if letters:
            seen.add(letters)
    return repeated


def near_duplicate(replies: Sequence[str]) -> list[bool]:
    """True for replies that differ from an earlier kept reply in at most a fifth of the words (inserted, omitted or changed).

    The threshold of 0.8 for the edit similarity of the words is that of Lee et al. 2022 (arXiv:2107.06499). On our replies, almost all
    pairs above it are edited copies, filled-in forms and recurring phrases of one person; below it they are different sentences with the
    same pattern ("… and I still get these emails"). MinHash over pairs of words selects the candidates (it misses 1 of 70 such pairs), and
    the words themselves are compared, so that nothing is dropped because of an estimate. The result is the same in every process.

    >>> story = "my first job was in a bakery and I got up at three every day"
    >>> near_duplicate([story, story + " lol", story.replace("first job", "last job")])
    [False, True, True]
    >>> near_duplicate([story, "my first dog was in a kennel and I got it at two every year"])
    [False, False]
    """
    repeated = [False] * len(replies)
    index = RMinHashLSH(NEAR_DUPLICATE_SHARE, SKETCH_HASHES, SKETCH_BANDS)
    for start in cli.track(range(0, len(replies), 10_000), "near-duplicates"):
        words = {number: _words(replies[number]) for number in range(start, min(start + 10_000, len(replies)))}
        words = {number: each for number, each in words.items() if len(each) >= NEAR_DUPLICATE_WORDS}
        sketches = RMinHash.from_token_sets([[f"{one} {two}" for one, two in pairwise(each)] for each in words.values()], SKETCH_HASHES, 1)
        for (number, each), sketch in zip(words.items(), sketches, strict=True):
            repeated[number] = any(_same_words(each, _words(replies[earlier])) for earlier in index.query(sketch))
            if not repeated[number]:
                index.insert(number, sketch)
    return repeated


# In the order in which they apply. not_english is optional.
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
    """Clean the pairs and apply the rules. Returns the kept pairs, cleaned, and the dropped pairs of each rule, unchanged.

    The first rule that applies drops a pair.
    """
    row_rules = [rule for rule in ROW_RULES if english_only or rule is not not_english]
    dropped: dict[str, list[Pair]] = {rule.__name__: [] for rule in (*row_rules, *REPLY_RULES)}
    kept: list[Pair] = []
    read: list[Pair] = []
    for pair in pairs:
        cleaned = clean_pair(pair)
        # a notice may be a link, whose brackets cleaning removes
        rule = "deleted" if deleted(pair) else next((rule.__name__ for rule in row_rules if rule(cleaned)), None)
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
    """Format a random sample of at most `number` dropped pairs of each rule, in their original order."""
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
    """The words without case and apostrophes, which are typed inconsistently.

    >>> _words("Don’t you, Mr_X?"), _words("DON'T")
    (['dont', 'you', 'mr', 'x'], ['dont'])
    """
    return _WORD.findall(body.casefold().replace("'", "").replace("’", ""))


def _letters(body: str) -> str:
    """Letters and digits without case. Uses casefold, because `lower` depends on neighbouring letters."""
    return "".join(_words(body))


def _same_words(one: list[str], two: list[str]) -> bool:
    return Levenshtein.normalized_similarity(one, two, score_cutoff=NEAR_DUPLICATE_SHARE) >= NEAR_DUPLICATE_SHARE


def _one_line(body: str) -> str:
    """Shorten a text to one line and remove control characters."""
    line = " ".join("".join(character if character.isprintable() else " " for character in body).split())
    return line if len(line) <= EXPLAINED_CHARACTERS else line[: EXPLAINED_CHARACTERS - 1] + "…"


def _pair(comment: str, reply: str) -> Pair:
    return Pair("s", "t3_1", "", None, "t1_1", comment, None, None, "t1_2", reply, None, None, None)
