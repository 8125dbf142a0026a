"""prepare: reply pairs -> cleaned and split training files. Subcommands: realism (adds generated replies), ranked (weak pairs).

                  reads                                                 writes
prepare           RAW/*.parquet (schema.Pair)                           OUT/lm_{train,val,test}.csv, gpt2_finetune.csv, upvote_{…}.csv,
                                                                        upvote_pairs_{…}.csv, relevance_{…}.csv
prepare realism   candidates that `generate` wrote for OUT/lm_*.csv     OUT/realism_{…}.csv
prepare ranked    replies with a known rank but unknown karma           OUT/ranked_pairs.csv

    python run_bot.py prepare --raw data/raw_data --out data/prepared
    python run_bot.py prepare --raw data/raw_data --out data/prepared --explain 20
    python run_bot.py prepare --raw data/raw_data --out data/prepared --mixture reddit=3 --mixture cornell=1
    python run_bot.py prepare realism data/fakes.csv data/fakes_hot.csv --out data/prepared
    python run_bot.py prepare ranked pairs.jsonl.zst --out data/prepared

Each row is either kept or counted under the first rule that drops it. The counts are printed and stored in every manifest. In order:

    deleted             comment or reply is a placeholder for deleted text
    nothing_left        comment or reply has no text except quotes, links and images
    bot_notice          comment or reply states that it was written by a bot
    too_short, too_long
    mostly_not_letters
    parroted            the reply repeats the comment
    not_english         with --english-only: the reply is in another language
    copy_pasta          the reply has the same letters as an earlier one
    near_duplicate      the reply differs from an earlier one in only a few words

Markdown, entities, quotes, links and images are converted to text by `text.clean`.

Corpora of dialogues (RAW/corpus-NAME.parquet) are cleaned by the same rules. They have no karma: they are in the lm and relevance files
whatever --minimum-karma is, and not in the upvote files. --mixture draws lm_train.csv (and the files made from it) so that each corpus has
a share in proportion to its weight: as many rows as possible, at random, none twice. `reddit` is everything with a real subreddit; a
corpus without a weight is an error. Validation and test rows are not affected. The rows of each corpus are printed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import duckdb
import typer
from rich.console import Console
from rich.table import Table

from bot import cli, files, schema, text
from bot.cli import UserError
from bot.corpus import pairs, rules
from bot.corpus.warehouse import check_months
from bot.schema import FinetuneText, LabelledRow, LmRow, Pair, RankedPair, RealismRow, UpvotePair, UpvoteRow

SPLITS = ("train", "val", "test")
# Options of `extract` -> what stands for them in a manifest.
SETTINGS = {
    "--parents": ("with_comments", "with_submissions"),
    "--subreddit": ("subreddits",),
    "--lookback-months": ("lookback_months",),
    "--drop-deleted-authors": ("drop_deleted_authors",),
    "conduct.bots": ("bots",),
    "the version": ("query",),
}
OUT, FINETUNE = Path("data/prepared"), "gpt2_finetune.csv"


def read_pairs(raw: Path) -> tuple[list[Pair], dict[str, str]]:
    """Read all rows of RAW/*.parquet, sorted by file, time of the reply and id. Also returns the checksums of the files.

    The rows of an extract are unordered, and sorting makes the choice among similar replies independent of their order.

    Raises:
        UserError: there are no files, columns or types are wrong, or a file does not match its manifest.
    """
    months = sorted(raw.glob("*.parquet"))
    if not months:
        raise UserError(f"{raw}: no Parquet file; run `python run_bot.py extract` first, or give another --raw")
    check_settings(raw, months)
    columns = schema.columns_of(Pair)
    typed = [f"CAST({name} AS {'VARCHAR' if kind is str else 'BIGINT'})" for name, kind in get_type_hints(Pair).items()]
    read: list[Pair] = []
    with duckdb.connect() as db:
        for file in cli.track(months, "reading"):
            try:
                query = f"SELECT {', '.join(typed)} FROM read_parquet(?) ORDER BY reply_utc NULLS LAST, reply_id"
                rows = db.execute(query, [str(file)]).fetchall()
            except duckdb.Error as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"{file}: not an extract with columns {', '.join(columns)} ({reason}); extract that month again") from None
            files.check_manifest(file, len(rows))
            read += [Pair(*row) for row in rows]
    if not read:
        raise UserError(f"{raw}: the extracts have no rows; extract months with replies first")
    return read, {file.name: files.sha256_of(file) for file in months}


def check_settings(raw: Path, months: Sequence[Path]) -> None:
    """Raises UserError if months were extracted with different settings, by their manifests. Some may have no manifest."""
    manifests = {file.stem: (files.read_manifest(file) or {}).get("made_from", {}) for file in months}
    made = {month: each for month, each in manifests.items() if "query" in each}
    differing = []
    for option, names in SETTINGS.items():
        values = {month: [each.get(name) for name in names] for month, each in made.items()}
        if any(value != next(iter(values.values())) for value in values.values()):
            differing.append(option)
    if differing:
        raise UserError(f"{raw}: {', '.join(made)} differ in {' and '.join(differing)} of `extract`; extract them again with the same")


def read_ranked(file: Path) -> tuple[list[Pair], dict[str, int]]:
    """Read replies with a known rank in Reddit's own order but unknown karma. Returns the replies and their rank by reply_id.

    The file has one JSON object per line (also .zst, .gz): subreddit, kind (post, comment), parent, reply, rank. Ids are created here and
    are valid only for this file.

    Raises:
        UserError: the file does not have this format.
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


def check_outputs(out: Path, names: Sequence[str], inputs: Sequence[Path], overwrite: bool) -> None:
    """Call files.check_output for each file. names: `lm` stands for lm_train.csv, lm_val.csv and lm_test.csv."""
    for name in names:
        for file in [name] if name.endswith(".csv") else [f"{name}_{split}.csv" for split in SPLITS]:
            files.check_output(out / file, inputs, overwrite)


def main(
    raw: Annotated[Path, typer.Option(help="folder with the extracts")] = Path("data/raw_data"),
    out: Annotated[Path, typer.Option(help="output folder")] = OUT,
    minimum_karma: Annotated[int, typer.Option(help="lm files: minimum karma of a reply")] = 1,
    karma_gap: Annotated[int, typer.Option(min=1, help="upvote pairs: minimum difference in karma")] = 2,
    hours_gap: Annotated[float, typer.Option(min=0, help="upvote pairs: maximum hours between the two replies")] = 1.0,
    neighbours: Annotated[int, typer.Option(min=1, help="upvote pairs: pair each reply with this many following siblings")] = 4,
    untimed: Annotated[
        list[str] | None, typer.Option(help="month (2023-04) with artificial times: ignore the times in its upvote pairs; repeatable")
    ] = None,
    english_only: Annotated[bool, typer.Option("--english-only", help="drop replies in other languages")] = False,
    mixture: Annotated[
        list[str] | None, typer.Option(help="lm files: weight of a corpus in the training rows (reddit=3, cornell=1); repeatable")
    ] = None,
    explain_rows: Annotated[int, typer.Option("--explain", min=0, help="print this many dropped rows of each rule")] = 0,
    overwrite: files.Overwrite = False,
) -> None:
    """Clean and split reply pairs into training files."""
    check_outputs(out, ["lm", "upvote", "upvote_pairs", "relevance", FINETUNE], [], overwrite)
    weights, months = mixture_of(mixture or []), check_months(untimed or [])
    read, sums = read_pairs(raw)
    kept, dropped = rules.keep(cli.track(read, "cleaning"), english_only)
    if not kept:
        reasons = ", ".join(f"{rule} {len(rows):,}" for rule, rows in dropped.items() if rows)
        raise UserError(f"{raw}: no row is left of {len(read):,} ({reasons}); extract more")
    made_from = {
        "files": sums, "minimum_karma": minimum_karma, "karma_gap": karma_gap, "hours_gap": hours_gap, "neighbours": neighbours,
        "untimed": sorted(months), "english_only": english_only, "mixture": weights,
    }  # fmt: skip
    split_of = {pair.thread_id: text.split_for(pair.thread_id) for pair in kept}

    to_comments = [pair for pair in kept if pair.comment_id.startswith("t1_")]
    liked = pairs.lm_rows(to_comments, minimum_karma)
    lm_rows = mixed(liked, split_of, weights) if weights else liked
    upvote_rows = pairs.upvote_rows(kept)
    upvote_pairs = pairs.sibling_pairs(kept, karma_gap, hours_gap, neighbours, months)

    cleaning = counts_of(read, dropped, kept)
    not_in_lm = {"to_submission": len(kept) - len(to_comments), "low_karma": len(to_comments) - len(liked)}
    left_out = {
        "lm": not_in_lm | ({"mixture": len(liked) - len(lm_rows)} if weights else {}),
        "upvote": {"no_karma_or_time": len(kept) - len(upvote_rows)},
    }
    lm_facts, upvote_facts = ({**cleaning, "left_out": left_out[name]} for name in ("lm", "upvote"))
    lm_facts["corpora"] = dict(sorted(Counter(pairs.corpus_of(row.subreddit) for row in lm_rows).items()))
    relevance = [row for split in SPLITS for row in pairs.relevance_rows([row for row in lm_rows if split_of[row.thread_id] == split])]
    table = write_files(
        out, split_of, made_from,
        ("lm", LmRow, lm_rows, lm_facts),
        ("upvote", UpvoteRow, upvote_rows, upvote_facts),
        ("upvote_pairs", UpvotePair, upvote_pairs, cleaning),
        ("relevance", LabelledRow, relevance, lm_facts),
    )  # fmt: skip
    finetune = (FinetuneText(text.format_training_text(r.comment, r.reply)) for r in lm_rows if split_of[r.thread_id] == "train")
    table.add_row("gpt2_finetune", f"{schema.write_rows(out / FINETUNE, FinetuneText, finetune, made_from, **lm_facts):,}", "", "")
    for line in rules.explain(dropped, explain_rows):
        print(line)
    Console().print(rules_table(cleaning, left_out), table)
    if {pairs.corpus_of(pair.subreddit) for pair in read} != {pairs.REDDIT}:
        Console().print(corpora_table(read, kept, lm_rows, upvote_rows, split_of))


def write_files(
    out: Path, split_of: dict[str, str], made_from: dict[str, Any], *tables: tuple[str, type, list[Any], dict[str, Any]]
) -> Table:
    """Write the rows of each split. tables: name, row type, rows and further fields of the manifest. Returns a table with the counts."""
    counts = Table("file", *SPLITS)
    for name, row_type, rows, facts in tables:
        counts.add_row(name, *(f"{write_split(out, name, row_type, rows, split, split_of, made_from, facts):,}" for split in SPLITS))
    return counts


def mixture_of(written: Sequence[str]) -> dict[str, float]:
    """The weight of each corpus. Raises UserError if it is not written as NAME=WEIGHT.

    >>> mixture_of(["cornell=1", "reddit=2.5"])
    {'cornell': 1.0, 'reddit': 2.5}
    """
    weights: dict[str, float] = {}
    for each in written:
        name, _, weight = each.partition("=")
        if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", weight) or name in weights:
            raise UserError(f"--mixture {each}: give each corpus once, as NAME=WEIGHT, for example cornell=1")
        weights[name] = float(weight)
    if weights and not any(weights.values()):
        raise UserError("--mixture: all weights are 0; give at least one corpus a weight above 0")
    return weights


def mixed(rows: Sequence[LmRow], split_of: Mapping[str, str], weights: Mapping[str, float]) -> list[LmRow]:
    """The rows with the training rows reduced to a mixture of corpora. Validation and test rows stay as they are.

    Raises:
        UserError: the corpora of the training rows are not those that have a weight.
    """
    train = [row for row in rows if split_of[row.thread_id] == "train"]
    names = {pairs.corpus_of(row.subreddit) for row in train}
    if unknown := weights.keys() - names:
        raise UserError(f"--mixture: no training row is from {', '.join(sorted(unknown))}; the corpora are {', '.join(sorted(names))}")
    if missing := sorted(names - weights.keys()):
        raise UserError(f"--mixture: {', '.join(missing)} has no weight; add {missing[0]}=WEIGHT, or {missing[0]}=0 to leave it out")
    return [*pairs.mix(train, weights), *(row for row in rows if split_of[row.thread_id] != "train")]


def corpora_table(
    read: Sequence[Pair], kept: Sequence[Pair], lm_rows: Sequence[LmRow], upvote_rows: Sequence[UpvoteRow], split_of: Mapping[str, str]
) -> Table:
    """The rows of each corpus. Corpora of dialogues have no karma, and so no rows in the upvote files."""
    columns: dict[str, Sequence[Pair | LmRow | UpvoteRow]] = {"read": read, "kept": kept}
    columns |= {f"lm_{split}": [row for row in lm_rows if split_of[row.thread_id] == split] for split in SPLITS}
    columns["upvote"] = upvote_rows
    counts = {name: Counter(pairs.corpus_of(row.subreddit) for row in rows) for name, rows in columns.items()}
    table = Table("corpus", *columns)
    for corpus in sorted(counts["read"]):
        table.add_row(corpus, *(f"{counts[name][corpus]:,}" for name in columns))
    return table


def counts_of(read: Sequence[Pair], dropped: dict[str, list[Pair]], kept: Sequence[Pair]) -> dict[str, Any]:
    """The counts of cleaning, for manifests and for the table."""
    return {"read": len(read), "dropped": {rule: len(rows) for rule, rows in dropped.items()}, "kept": len(kept)}


def rules_table(cleaning: dict[str, Any], left_out: dict[str, dict[str, int]]) -> Table:
    """A table with the rows dropped by each rule, the rows kept, and the kept rows that are not in the lm and upvote files."""
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
    """Sampling settings for the generator's label, such as " temperature=0.8 top_p=0.9". Empty if the manifest does not have them."""
    settings = (files.read_manifest(fakes) or {}).get("made_from", {}).get("settings", {})
    return "".join(f" {name}={settings[name]:g}" for name in ("temperature", "top_p") if name in settings)


def write_split(
    out: Path,
    name: str,
    row_type: type,
    rows: list[Any],
    split: str,
    split_of: dict[str, str],
    made_from: dict[str, Any],
    facts: dict[str, Any],
) -> int:
    selected = (row for row in rows if split_of[row.thread_id] == split)
    return schema.write_rows(out / f"{name}_{split}.csv", row_type, selected, made_from, **facts)


def realism_command(
    fakes: Annotated[list[Path], typer.Argument(metavar="FILE", help="candidates that `generate` wrote for OUT/lm_*.csv")],
    out: Annotated[Path, typer.Option(help="folder with the training files, also the output folder")] = OUT,
    overwrite: files.Overwrite = False,
) -> None:
    """Combine generated replies and human replies to the same comments."""
    check_outputs(out, ["realism"], fakes, overwrite)
    people = [row for split in SPLITS for row in schema.read_rows(out / f"lm_{split}.csv", LmRow)]
    candidates = [
        replace(candidate, generator=candidate.generator + setting_of(file))
        for file in fakes
        for candidate in schema.read_rows(file, schema.Candidate)
    ]
    rows = pairs.realism_rows(people, candidates)
    if not rows:
        names = ", ".join(map(str, fakes))
        raise UserError(f"{names}: none of the comment_ids occurs in {out}/lm_*.csv; generate candidates from one of those files")
    made_from = {"fakes": [files.sha256_of(file) for file in fakes]}
    used = sum(row.label == 0 for row in rows)
    empty = sum(not text.clean(candidate.reply) for candidate in candidates)
    dropped = {"nothing_left": empty, "comment_not_in_lm": len(candidates) - used - empty}
    print(f"{len(candidates):,} candidates:", ", ".join(f"{rule} {count:,}" for rule, count in dropped.items()), f"- {used:,} used")
    facts = {"read": len(candidates), "dropped": dropped}
    split_of = {row.thread_id: text.split_for(row.thread_id) for row in rows}
    for split in SPLITS:
        count = write_split(out, "realism", RealismRow, rows, split, split_of, made_from, facts)
        print(f"{out}/realism_{split}.csv: {count:,} rows")


def ranked_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines of subreddit, kind, parent, reply, rank; also .zst or .gz")],
    out: Annotated[Path, typer.Option(help="output folder for ranked_pairs.csv, the input of `train upvote --ranked-rows`")] = OUT,
    overwrite: files.Overwrite = False,
) -> None:
    """Create weak pairs from replies with a known rank but unknown karma."""
    check_outputs(out, ["ranked_pairs.csv"], [file], overwrite)
    replies, rank = read_ranked(file)
    kept, dropped = rules.keep(cli.track(replies, "cleaning"))
    cleaning = counts_of(replies, dropped, kept)
    made_from = {"ranked": files.sha256_of(file)}
    count = schema.write_rows(out / "ranked_pairs.csv", RankedPair, pairs.ranked_pairs(kept, rank), made_from, **cleaning)
    Console().print(rules_table(cleaning, {}))
    print(f"{out}/ranked_pairs.csv: {count:,} rows")
