"""prepare picked: a generator's own best candidates, for it to learn from (self-training on what is picked).

Reads  scored candidates (`generate` on training comments, then `score`; columns comment_id, comment, reply, realism_score, rank_score) and
       OUT/lm_train.csv.
Writes OUT/imitate_train.csv (schema.LmRow), which `train lm --imitate` reads instead of lm_train.csv.

    python run_bot.py generate --in data/prepared/lm_train.csv --sample 1500 --num-candidates 8 --out data/own.csv
    python run_bot.py score --in data/own.csv --out data/own_scored.csv
    python run_bot.py prepare picked data/own_scored.csv --out data/prepared
    python run_bot.py train lm --imitate --start models/lm --data data/prepared --out models/lm-2

The pick of a comment is the one that `choose` would take: of the candidates that pass its floors and conduct.may_say, the one with the best
rank_score. This is one step of best-of-n distillation (also called rejection sampling or expert iteration, as in Touvron et al. 2023, Llama
2, section 3.2.3). A reply that is picked for many comments is kept for MOST_OF_ONE of them, or the generator would learn to say nothing
else. People's replies are added, one for each pick, so that it does not drift far from how people write.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import config, files, schema
from bot.cli import UserError
from bot.conduct import what
from bot.corpus import copies, imitate, prepare
from bot.rankers import classifier, score
from bot.schema import LmRow

MOST_OF_ONE = 3  # comments that keep the same reply
COLUMNS = ("comment_id", "comment", "reply", "realism_score", "rank_score")


def picks(
    rows: Sequence[Mapping[str, Any]], settings: config.ChooseSettings, unfit: Collection[tuple[str, str]] = ()
) -> list[Mapping[str, Any]]:
    """The best row of each comment, the highest rank_score first. rows: with COLUMNS, scores as numbers or None. unfit: see unfit_pairs.

    >>> settings = config.ChooseSettings(minimum_realism=0, minimum_rank=0.3, minimum_words=2)
    >>> rows = [dict(zip(COLUMNS, ("t1_a", "Why?", reply, 0.5, rank))) for reply, rank in (("I see it", 0.4), ("Not I", 0.6), ("No", 0.9))]
    >>> [row["reply"] for row in picks(rows, settings)], [row["reply"] for row in picks(rows, settings, {("Why?", "Not I")})]
    (['Not I'], ['I see it'])
    """
    scored = [row for row in rows if (row["comment"], row["reply"]) not in unfit and row["rank_score"] is not None]
    fit = [row for row in scored if not _refusal(row, settings)]
    best: dict[str, Mapping[str, Any]] = {}
    times: Counter[str] = Counter()
    for row in sorted(fit, key=lambda row: -row["rank_score"]):
        plain = copies.plain(row["reply"])
        if row["comment_id"] not in best and times[plain] < MOST_OF_ONE:
            best[row["comment_id"]] = row
            times[plain] += 1
    return [*best.values()]


def _refusal(row: Mapping[str, Any], settings: config.ChooseSettings) -> str:
    return score.refusal(row["comment"], row["reply"], row["realism_score"], row["rank_score"], settings)


def unfit_pairs(rows: Sequence[Mapping[str, Any]], conduct: config.ConductSettings) -> set[tuple[str, str]]:
    """The (comment, reply) that the bot would not say. Raises UserError if the classifier cannot be read."""
    replies = list(dict.fromkeys(row["reply"] for row in rows))
    judged = dict(zip(replies, classifier.judge_replies(replies, conduct), strict=True))
    pairs = dict.fromkeys((row["comment"], row["reply"]) for row in rows)
    return {(comment, reply) for comment, reply in pairs if what.may_say(reply, what.around(comment), conduct, judged[reply])}


def with_people(chosen: Sequence[Mapping[str, Any]], people: list[LmRow], seed: int) -> list[LmRow]:
    """Each pick as a training row, and as many replies of people. Raises UserError if a comment is not a training comment."""
    by_comment: dict[str, list[LmRow]] = defaultdict(list)
    for row in people:
        by_comment[row.comment_id].append(row)
    if missing := [row["comment_id"] for row in chosen if row["comment_id"] not in by_comment]:
        raise UserError(
            f"{missing[0]} and {len(missing) - 1} other comments are not in lm_train.csv; give candidates for training comments, so that"
            " val and test stay unseen"
        )
    own = []
    for pick in chosen:
        like = by_comment[pick["comment_id"]][0]
        own.append(
            LmRow(like.thread_id, like.comment_id, f"{like.comment_id}{imitate.PICKED}", like.subreddit, like.comment, pick["reply"])
        )
    return own + schema.sample_rows(people, len(own), seed)


def main(
    scored: Annotated[list[Path], typer.Argument(help="scored candidates for training comments; several files may be given")],
    out: Annotated[Path, typer.Option(help="folder with the training files, also the output folder")] = prepare.OUT,
    seed: Annotated[int, typer.Option()] = 1,
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings: the floors of [choose]")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Choose a generator's own best candidates, so that it can learn from them."""
    settings = config.load(config_file)
    files.check_output(out / imitate.FILE, scored, overwrite)
    rows: list[dict[str, Any]] = []
    for path in scored:
        table = schema.read_table(path, COLUMNS)[1]
        numbers = {name: schema.numbers(path, table, name) for name in ("realism_score", "rank_score")}
        rows += [{**row, **{name: values[place] for name, values in numbers.items()}} for place, row in enumerate(table)]
    people = schema.read_rows(out / "lm_train.csv", LmRow)
    chosen = picks(rows, settings.choose, unfit_pairs(rows, settings.conduct))
    if not chosen:
        raise UserError(f"{scored[0]}: no candidate passes the floors of [choose]; generate more, or lower choose.minimum_rank")
    made_from = {"files": [files.sha256_of(path) for path in [*scored, out / "lm_train.csv"]], "seed": seed}
    count = schema.write_rows(out / imitate.FILE, LmRow, with_people(chosen, people, seed), made_from, picked=len(chosen))
    comments = len({row["comment_id"] for row in rows})
    print(f"{out / imitate.FILE}: {count:,} rows, half of them picks; {len(chosen):,} of {comments:,} comments have one")
