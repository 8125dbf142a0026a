"""prepare: reply pairs -> cleaned, split training files; and, with --fakes, the realism files.

Reads  RAW/*.parquet (schema.Pair) and, for realism, a candidates.csv that `generate` wrote for the comments of OUT/lm_*.csv.
Writes OUT/lm_{train,val,test}.csv, gpt2_finetune.csv, upvote_{…}.csv, upvote_pairs_{…}.csv, relevance_{…}.csv; with --fakes
       OUT/realism_{…}.csv instead, with --ranked OUT/ranked_pairs.csv.

    python -m bot.prepare --raw data/raw_data --out data/prepared
    python -m bot.prepare --raw data/raw_data --out data/prepared --explain 20
    python -m bot.prepare --out data/prepared --fakes data/fakes.csv --fakes data/fakes_hot.csv
    python -m bot.prepare --out data/prepared --ranked pairs.jsonl.zst

Each row read is kept or counted under the first rule that drops it; the table is printed and stands in every file's manifest. In order:

    deleted             Reddit's mark stands in the place of comment or reply
    nothing_left        no text in comment or reply but quotes, links and images
    bot_notice          comment or reply says that it is a bot's
    too_short, too_long
    mostly_not_letters
    parroted            the reply says the comment again
    not_english         with --english-only: a detector is sure of it
    copy_pasta          letter for letter a reply that came earlier
    near_duplicate      but for few words a reply that came earlier

What makes text of markdown, entities, quotes, links and images is `text.clean`.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise, permutations
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import duckdb
import typer
from rapidfuzz.distance import Levenshtein
from rensa import RMinHash, RMinHashLSH  # type: ignore[import-untyped]
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bot import UserError, run_command, schema, text
from bot.schema import FinetuneText, LabelledRow, LmRow, Pair, RankedPair, RealismRow, UpvotePair, UpvoteRow

SPLITS = ("train", "val", "test")
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


def sibling_pairs(
    pairs: Iterable[Pair], karma_gap: int, hours_gap: float, neighbours: int = 1, untimed: Collection[str] = ()
) -> list[UpvotePair]:
    """Each of the replies to one comment with the `neighbours` after it in time, if they are at most `hours_gap` apart and their karma
    differs by at least `karma_gap`.

    Only siblings are compared, so subreddit, age and exposure of the parent cancel. One neighbour is DialogRPT's rule (Gao et al. 2020,
    arXiv:2009.06978); without a limit a thread with a thousand replies would give half a million pairs. untimed: months («2023-04») whose
    times aren't real. Their siblings stand in an order of chance, no two are too far apart, and hours_gap is 0.
    """
    siblings: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        if pair.reply_karma is not None and pair.reply_utc is not None:
            siblings[pair.comment_id].append(pair)
    rows = []
    for comment_id, replies in siblings.items():
        real = not any(month_of(reply) in untimed for reply in replies)
        replies.sort(key=lambda reply: (reply.reply_utc, reply.reply_id))
        if not real:
            replies.sort(key=lambda reply: reply.reply_id)  # the same order, whatever the made-up times say, for chance to begin with
            random.Random(comment_id).shuffle(replies)
        for place, one in enumerate(replies):
            for other in replies[place + 1 : place + 1 + neighbours]:
                better, worse = (one, other) if (one.reply_karma or 0) > (other.reply_karma or 0) else (other, one)
                gap = (better.reply_karma or 0) - (worse.reply_karma or 0)
                hours = ((better.reply_utc or 0) - (worse.reply_utc or 0)) / 3600 if real else 0.0
                if gap >= karma_gap and abs(hours) <= hours_gap and better.reply != worse.reply:
                    row = UpvotePair(
                        better.thread_id, comment_id, better.reply_id, worse.reply_id, better.subreddit, better.comment,
                        better.reply, worse.reply, gap, round(hours, 4),
                    )  # fmt: skip
                    rows.append(row)
    return rows


def month_of(reply: Pair) -> str:
    """The month of the reply's time, UTC, as «2023-04»."""
    return datetime.fromtimestamp(reply.reply_utc or 0, UTC).strftime("%Y-%m")


def ranked_pairs(replies: Iterable[Pair], rank: Mapping[str, int]) -> list[RankedPair]:
    """Each reply with every sibling that Reddit listed below it. rank: by reply_id, 1 is the first."""
    siblings: dict[str, list[Pair]] = defaultdict(list)
    for reply in replies:
        siblings[reply.comment_id].append(reply)
    return [
        RankedPair(one.subreddit, one.comment, one.reply, other.reply, rank[other.reply_id] - rank[one.reply_id])
        for found in siblings.values()
        for one, other in permutations(found, 2)
        if rank[one.reply_id] < rank[other.reply_id] and one.reply != other.reply
    ]


def relevance_rows(rows: Sequence[LmRow]) -> list[LabelledRow]:
    """For each row its reply (label 1), then one of another thread of its subreddit (label 0, by chance); none where there is no other.

    Give it the rows of one split, so that no reply crosses to another.
    """
    by_subreddit: dict[str, list[LmRow]] = defaultdict(list)
    for row in rows:
        by_subreddit[row.subreddit.lower()].append(row)
    result = []
    for name, members in by_subreddit.items():
        if len({row.thread_id for row in members}) < 2:
            continue
        chance = random.Random(name)
        for row in members:
            other = row
            while other.thread_id == row.thread_id:
                other = chance.choice(members)
            where = (row.thread_id, row.comment_id)
            result.append(LabelledRow(*where, row.reply_id, row.subreddit, row.comment, row.reply, 1))
            if other.reply != row.reply:
                result.append(LabelledRow(*where, other.reply_id, row.subreddit, row.comment, other.reply, 0))
    return result


def realism_rows(people: Iterable[LmRow], fakes: Iterable[schema.Candidate]) -> list[RealismRow]:
    """For each comment that has a candidate: the candidates (label 0), then the person's reply (label 1).

    A comment with several candidates gives as many rows of each kind as it can: people's replies are not repeated. Candidates are
    cleaned as people's replies are, and as `rank` cleans both; otherwise a stray asterisk would tell them apart.
    """
    by_comment: dict[str, list[schema.Candidate]] = defaultdict(list)
    for fake in fakes:
        fake = replace(fake, reply=text.clean(fake.reply))
        if fake.reply:
            by_comment[fake.comment_id].append(fake)
    rows = []
    for row in people:
        for fake in by_comment.get(row.comment_id, []):
            rows.append(
                RealismRow(row.thread_id, row.comment_id, fake.candidate_id, row.subreddit, row.comment, fake.reply, 0, fake.generator)
            )
        if row.comment_id in by_comment:
            rows.append(RealismRow(row.thread_id, row.comment_id, row.reply_id, row.subreddit, row.comment, row.reply, 1, ""))
            # a second reply of a person to the same comment stays, its candidates are there already
            by_comment[row.comment_id] = []
    return rows


def read_pairs(raw: Path) -> tuple[list[Pair], dict[str, str]]:
    """All rows of RAW/*.parquet, by file and within it by the reply's time and id, and the files' checksums.

    An extract's rows lie in no order, and which of several like replies is kept must not depend on it.

    Raises:
        UserError: no such files, other columns or types, or a file that isn't what its manifest says.
    """
    files = sorted(raw.glob("*.parquet"))
    if not files:
        raise UserError(f"{raw}: no Parquet file; run `python run_bot.py extract` first, or give --raw")
    columns = schema.columns_of(Pair)
    typed = [f"CAST({name} AS {'VARCHAR' if kind is str else 'BIGINT'})" for name, kind in get_type_hints(Pair).items()]
    pairs: list[Pair] = []
    with duckdb.connect() as db:
        for file in track(files, description="reading", transient=True):
            try:
                query = f"SELECT {', '.join(typed)} FROM read_parquet(?) ORDER BY reply_utc NULLS LAST, reply_id"
                rows = db.execute(query, [str(file)]).fetchall()
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{file}: not an extract with columns {', '.join(columns)} ({reason}); extract that month again") from None
            schema.check_manifest(file, len(rows))
            pairs += [Pair(*row) for row in rows]
    return pairs, {file.name: schema.sha256_of(file) for file in files}


def read_ranked(file: Path) -> tuple[list[Pair], dict[str, int]]:
    """Replies whose place in Reddit's own order is known but not their karma, and that place by reply_id.

    One JSON object a line (also .zst, .gz): subreddit, kind (post, comment), parent, reply, rank. Ids are made here, for this file alone.

    Raises:
        UserError: the file is not like that.
    """
    query = """
        SELECT subreddit, kind, parent, reply, rank, dense_rank() OVER (ORDER BY subreddit, kind, parent), row_number() OVER ()
        FROM read_json(?, columns = {subreddit: 'VARCHAR', kind: 'VARCHAR', parent: 'VARCHAR', reply: 'VARCHAR', rank: 'INTEGER'},
                       format = 'newline_delimited')
        WHERE columns(*) IS NOT NULL
        ORDER BY ALL
    """
    try:
        with duckdb.connect() as db:
            rows = db.execute(query, [str(file)]).fetchall()
    except duckdb.Error as error:
        raise UserError(f"{file}: not JSON lines with subreddit, kind, parent, reply, rank ({str(error).splitlines()[0]})") from None
    if not rows:
        raise UserError(f"{file}: no line has subreddit, kind, parent, reply and rank; is it the right file?")
    replies = [
        Pair(subreddit, "", "", None, f"{'t3' if kind == 'post' else 't1'}_{parent_id}", parent, None, None, str(reply_id), reply,
             None, None, None)
        for subreddit, kind, parent, reply, _, parent_id, reply_id in rows
    ]  # fmt: skip
    return replies, {str(reply_id): rank for *_, rank, _, reply_id in rows}


def write_ranked(out: Path, file: Path) -> None:
    replies, rank = read_ranked(file)
    kept, dropped = keep(track(replies, description="cleaning", transient=True))
    cleaning = {"read": len(replies), "dropped": {rule: len(rows) for rule, rows in dropped.items()}, "kept": len(kept)}
    made_from = {"ranked": schema.sha256_of(file)}
    count = schema.write_rows(out / "ranked_pairs.csv", RankedPair, ranked_pairs(kept, rank), made_from, **cleaning)
    Console().print(rules_table(cleaning, {}))
    print(f"{out}/ranked_pairs.csv: {count:,} rows")


def main(
    raw: Annotated[Path, typer.Option(help="folder of extracts")] = Path("data/raw_data"),
    out: Annotated[Path, typer.Option(help="folder for the training files")] = Path("data/prepared"),
    minimum_karma: Annotated[int, typer.Option(help="lm files: leave out replies with less karma")] = 1,
    karma_gap: Annotated[int, typer.Option(min=1, help="upvote pairs: least difference in karma")] = 2,
    hours_gap: Annotated[float, typer.Option(min=0, help="upvote pairs: most hours between the two")] = 1.0,
    neighbours: Annotated[int, typer.Option(min=1, help="upvote pairs: each reply with so many of the next siblings in time")] = 4,
    untimed: Annotated[
        list[str] | None, typer.Option(help="month (2023-04) whose times are made up: no rule of time for its upvote pairs")
    ] = None,
    english_only: Annotated[bool, typer.Option("--english-only", help="drop replies that are surely not in English")] = False,
    explain_rows: Annotated[int, typer.Option("--explain", min=0, help="show this many dropped rows of each rule")] = 0,
    fakes: Annotated[
        list[Path] | None,
        typer.Option(help="candidates.csv for the comments of OUT/lm_*.csv: write the realism files; may be given several times"),
    ] = None,
    ranked: Annotated[
        Path | None, typer.Option(help="JSON lines of subreddit, kind, parent, reply, rank: write OUT/ranked_pairs.csv for train upvote")
    ] = None,
) -> None:
    """Clean and split reply pairs into training files."""
    if fakes:
        return write_realism(out, fakes)
    if ranked is not None:
        return write_ranked(out, ranked)
    pairs, files = read_pairs(raw)
    kept, dropped = keep(track(pairs, description="cleaning", transient=True), english_only)
    made_from = {
        "files": files, "minimum_karma": minimum_karma, "karma_gap": karma_gap, "hours_gap": hours_gap, "neighbours": neighbours,
        "untimed": sorted(untimed or []), "english_only": english_only,
    }  # fmt: skip
    split = {pair.thread_id: text.split_for(pair.thread_id) for pair in kept}

    to_comments = [pair for pair in kept if pair.comment_id.startswith("t1_")]
    lm = [pair for pair in to_comments if (pair.reply_karma or 0) >= minimum_karma]
    lm_rows = [LmRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply) for p in lm]
    upvote_rows = [
        UpvoteRow(p.thread_id, p.comment_id, p.reply_id, p.subreddit, p.comment, p.reply, p.reply_karma, p.reply_utc)
        for p in kept
        if p.reply_karma is not None and p.reply_utc is not None
    ]
    upvote_pairs = sibling_pairs(kept, karma_gap, hours_gap, neighbours, untimed or [])

    cleaning = {"read": len(pairs), "dropped": {rule: len(rows) for rule, rows in dropped.items()}, "kept": len(kept)}
    left_out = {
        "lm": {"to_submission": len(kept) - len(to_comments), "low_karma": len(to_comments) - len(lm)},
        "upvote": {"no_karma_or_time": len(kept) - len(upvote_rows)},
    }
    lm_facts, upvote_facts = ({**cleaning, "left_out": left_out[name]} for name in ("lm", "upvote"))
    table = Table("file", *SPLITS)
    for name, row_type, rows, facts in (
        ("lm", LmRow, lm_rows, lm_facts),
        ("upvote", UpvoteRow, upvote_rows, upvote_facts),
        ("upvote_pairs", UpvotePair, upvote_pairs, cleaning),
    ):
        counts = [write_split(out, name, row_type, rows, each, split, made_from, facts) for each in SPLITS]
        table.add_row(name, *(f"{count:,}" for count in counts))
    relevance = [row for each in SPLITS for row in relevance_rows([row for row in lm_rows if split[row.thread_id] == each])]
    counts = [write_split(out, "relevance", LabelledRow, relevance, each, split, made_from, lm_facts) for each in SPLITS]
    table.add_row("relevance", *(f"{count:,}" for count in counts))
    finetune = (FinetuneText(text.format_training_text(r.comment, r.reply)) for r in lm_rows if split[r.thread_id] == "train")
    count = schema.write_rows(out / "gpt2_finetune.csv", FinetuneText, finetune, made_from, **lm_facts)
    table.add_row("gpt2_finetune", f"{count:,}", "", "")

    for line in explain(dropped, explain_rows):
        print(line)
    Console().print(rules_table(cleaning, left_out), table)


def rules_table(cleaning: dict[str, Any], left_out: dict[str, dict[str, int]]) -> Table:
    """Where each row read went: dropped by a rule or kept; and which of those kept don't stand in the lm and the upvote files."""
    table = Table("rule")
    table.add_column("rows", justify="right")
    table.add_row("read", f"{cleaning['read']:,}")
    for rule, count in cleaning["dropped"].items():
        table.add_row(f"- {rule}", f"{count:,}")
    table.add_row("= kept", f"{cleaning['kept']:,}")
    for name, reasons in left_out.items():
        table.add_section()
        for reason, count in reasons.items():
            table.add_row(f"kept, but not in {name}: {reason}", f"{count:,}")
        table.add_row(f"= {name}", f"{cleaning['kept'] - sum(reasons.values()):,}")
    return table


def setting_of(fakes: Path) -> str:
    """How the candidates were drawn, for the generator's label: « temperature=0.8 top_p=0.9», or nothing where no manifest says it."""
    settings = (schema.read_manifest(fakes) or {}).get("made_from", {}).get("settings", {})
    return "".join(f" {name}={settings[name]:g}" for name in ("temperature", "top_p") if name in settings)


def write_realism(out: Path, fakes: Sequence[Path]) -> None:
    people = [row for each in SPLITS for row in schema.read_rows(out / f"lm_{each}.csv", LmRow)]
    candidates = [
        replace(candidate, generator=candidate.generator + setting_of(file))
        for file in fakes
        for candidate in schema.read_rows(file, schema.Candidate)
    ]
    rows = realism_rows(people, candidates)
    if not rows:
        named = ", ".join(map(str, fakes))
        raise UserError(f"{named}: none of its comment_ids stands in {out}/lm_*.csv; generate from one of those files")
    made_from = {"fakes": {file.name: schema.sha256_of(file) for file in fakes}}
    used = sum(row.label == 0 for row in rows)
    empty = sum(not text.clean(candidate.reply) for candidate in candidates)
    dropped = {"nothing_left": empty, "comment_not_in_lm": len(candidates) - used - empty}
    print(f"{len(candidates):,} candidates:", ", ".join(f"{rule} {count:,}" for rule, count in dropped.items()), f"- {used:,} used")
    facts = {"read": len(candidates), "dropped": dropped}
    split = {row.thread_id: text.split_for(row.thread_id) for row in rows}
    for each in SPLITS:
        count = write_split(out, "realism", RealismRow, rows, each, split, made_from, facts)
        print(f"{out}/realism_{each}.csv: {count:,} rows")


def write_split(
    out: Path,
    name: str,
    row_type: type,
    rows: list[Any],
    each: str,
    split: dict[str, str],
    made_from: dict[str, Any],
    facts: dict[str, Any],
) -> int:
    chosen = (row for row in rows if split[row.thread_id] == each)
    return schema.write_rows(out / f"{name}_{each}.csv", row_type, chosen, made_from, **facts)


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


if __name__ == "__main__":
    run_command(main, "python -m bot.prepare")
