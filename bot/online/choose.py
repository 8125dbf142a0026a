"""choose: select at most one reply per submission.

Reads  RUN/comments.csv, RUN/candidates.csv and RUN/scores.csv; if present, RUN/context.csv, the ledger and MODEL/replies.npy (texts that a
       reply must not copy).
Writes RUN/scored.csv, every candidate with its scores, verdict (chosen, kept or refused) and reason, and RUN/chosen.csv.

    python run_bot.py choose --run data/runs/X

The rule has the original bot's two steps: drop candidates with a realism score below choose.minimum_realism, then take the candidate with
the best rank_score. If a submission has several comments, only the best candidate of all of them is chosen, and no two comments get the
same reply. Candidates with fewer words than choose.minimum_words, with three consecutive words of the comment, or with a rank_score below
choose.minimum_rank are also dropped. Before the second step, conduct.may_say drops candidates that must not be posted, regardless of the
comment's author and text. If no candidate passes, none is chosen; this is normal. `train weights` sets the thresholds.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, config, files, schema
from bot.cli import UserError
from bot.conduct import what
from bot.corpus import copies
from bot.online import door
from bot.posting import ledger
from bot.rankers import classifier, score
from bot.schema import Candidate, Comment, Context, NotChosen, Scored, Scores, Verdict

Fault = Callable[[Scored], str | None]  # why a candidate must not be posted, or None


def choose(rows: Sequence[Scored], settings: config.ChooseSettings, fault: Fault = lambda row: None) -> list[Scored]:
    """The rows, in the same order, each with a verdict and a reason. Verdicts that the rows already have are ignored.

    refused: empty, low_realism, too_short, repeats_comment, low_rank, what `fault` returns, or same_reply_elsewhere: another comment gets
    the same reply, and a bot that says the same to many people is spam. kept: another candidate of the comment is better (not_best), or
    another comment of the submission is answered (other_comment_in_submission). The highest rank_score is chosen first. Ties are broken by
    the smaller candidate_id, so the result does not depend on the order of the rows. Candidates without a rank_score come last.
    """
    refusals = [refusal(row, settings) or fault(row) or "" for row in rows]
    order = sorted(
        (index for index, reason in enumerate(refusals) if not reason),
        key=lambda index: (rows[index].rank_score is None, -(rows[index].rank_score or 0.0), rows[index].candidate_id),
    )
    best_of_thread: dict[str, int] = {}
    best_of_comment: dict[str, int] = {}
    comment_of: dict[str, str] = {}  # normalized reply -> the comment that gets it
    for index in order:
        row, plain = rows[index], copies.plain(rows[index].reply)
        if comment_of.get(plain, row.comment_id) != row.comment_id:
            refusals[index] = NotChosen.SAME_REPLY
        elif best_of_thread.setdefault(row.thread_id, index) == index:
            comment_of[plain] = row.comment_id
        if not refusals[index]:
            best_of_comment.setdefault(row.comment_id, index)
    result = []
    for index, (row, reason) in enumerate(zip(rows, refusals, strict=True)):
        verdict = Verdict.REFUSED if reason else Verdict.KEPT
        if not reason:
            if best_of_thread[row.thread_id] == index:
                verdict = Verdict.CHOSEN
            elif best_of_comment[row.comment_id] == index:
                reason = NotChosen.OTHER_COMMENT
            else:
                reason = NotChosen.NOT_BEST
        result.append(replace(row, verdict=verdict, reason=reason))
    return result


def summary(rows: Sequence[Scored]) -> str:
    """How many comments get a reply, and why the others do not.

    >>> row = Scored("t1_a", "t3_a", "s", "why", "t1_a-0", "so", 0.1, 0.2, None, 0.2, "refused", "low_realism")
    >>> summary([row, replace(row, comment_id="t1_b", verdict="chosen", reason="")])
    '1 of 2 comments get a reply; 1 without: all candidates refused (low_realism 1)'
    """
    verdicts: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        verdicts[row.comment_id].add(row.verdict)
    answered = sum("chosen" in each for each in verdicts.values())
    abstained = {comment_id for comment_id, each in verdicts.items() if each == {"refused"}}
    line = f"{answered} of {len(verdicts)} comments get a reply"
    if abstained:
        reasons = Counter(row.reason for row in rows if row.comment_id in abstained).most_common()
        why = ", ".join(f"{reason} {count}" for reason, count in reasons)
        line += f"; {len(abstained)} without: all candidates refused ({why})"
    if waiting := len(verdicts) - answered - len(abstained):
        line += f"; {waiting} without: another comment of the submission is answered"
    return line


def refusal(row: Scored, settings: config.ChooseSettings) -> str:
    """See rankers.score.refusal."""
    return score.refusal(row.comment, row.reply, row.realism_score, row.rank_score, settings)


def fault_finder(
    rows: Sequence[Scored], comments: Sequence[Comment], context: Sequence[Context], own: Sequence[str], settings: config.Settings
) -> tuple[Fault, bool]:
    """conduct.may_say with its arguments filled in, and whether sketches of the training text exist.

    own: the bot's earlier replies. rows: the rows that `fault` will be called with; the reply classifier judges all of them in one batch.

    Raises:
        UserError: the sketches or the classifier cannot be read.
    """
    texts: dict[str, dict[str, str]] = defaultdict(dict)  # thread -> comment_id -> text
    titles = {comment.thread_id: comment.title for comment in comments}
    for comment in comments:
        texts[comment.thread_id][comment.comment_id] = comment.comment
    for other in context:
        texts[other.thread_id][other.comment_id] = other.comment
    surroundings = {thread: door.Surroundings(titles.get(thread, ""), comments_there) for thread, comments_there in texts.items()}
    training = copies.read(settings.generate.model)
    own = [copies.plain(each) for each in own]
    known: dict[str, what.Around] = {}
    replies = list(dict.fromkeys(row.reply for row in rows))
    judged = dict(zip(replies, classifier.judge_replies(replies, settings.conduct), strict=True))

    def fault(row: Scored) -> str | None:
        if row.comment_id not in known:
            known[row.comment_id] = surroundings[row.thread_id].around(row.comment_id, row.comment, own, training)
        return what.may_say(row.reply, known[row.comment_id], settings.conduct, judged[row.reply])

    return fault, training is not None


def join(comments: Sequence[Comment], candidates: Sequence[Candidate], scores: Sequence[Scores]) -> list[Scored]:
    """One row per candidate, in the candidates' order, without verdicts; joined by ids, never by text.

    Raises:
        UserError: a candidate answers a comment that is not in comments.csv, or the scores belong to other candidates.
    """
    by_id = {comment.comment_id: comment for comment in comments}
    if foreign := next((each for each in candidates if each.comment_id not in by_id), None):
        raise UserError(
            f"candidates.csv: {foreign.candidate_id} answers {foreign.comment_id}, which is not in comments.csv; run `generate` again"
        )
    scored = {each.candidate_id: each for each in scores}
    if scored.keys() != {each.candidate_id for each in candidates}:
        raise UserError("scores.csv: not made from the candidates in candidates.csv; run `rank` again")
    rows = []
    for each in candidates:
        comment, of = by_id[each.comment_id], scored[each.candidate_id]
        where = (comment.comment_id, comment.thread_id, comment.subreddit, comment.comment)
        scores_of = (of.realism_score, of.upvote_score, of.relevance_score, of.rank_score)
        rows.append(Scored(*where, each.candidate_id, each.reply, *scores_of, Verdict.KEPT, "", of.choice_score))
    return rows


def decide(
    comments: Sequence[Comment],
    candidates: Sequence[Candidate],
    scores: Sequence[Scores],
    context: Sequence[Context],
    own: Sequence[str],
    settings: config.Settings,
) -> tuple[list[Scored], bool]:
    """`join`, `fault_finder` and `choose`: the rows with their verdicts, and whether sketches of the training text exist."""
    before = join(comments, candidates, scores)
    fault, with_training = fault_finder([row for row in before if not refusal(row, settings.choose)], comments, context, own, settings)
    return choose(before, settings.choose, fault), with_training


def own_texts(path: Path, but_to: Collection[str]) -> list[str]:
    """The bot's recent replies in the ledger at `path`, except those to the given comments; empty if there is no ledger."""
    if not path.exists():
        return []
    with closing(ledger.open_existing(path)) as db:
        return ledger.own_texts(db, but_to=but_to)


def main(
    run: Annotated[Path, typer.Option(help="run folder: reads scores.csv, writes scored.csv and chosen.csv")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
) -> None:
    """Choose the replies to post, at most one per submission."""
    settings = config.load(config_file)
    with files.run_folder(run):
        for name in ("scored.csv", "chosen.csv"):
            files.check_output(run / name, [run / each for each in ("comments.csv", "candidates.csv", "scores.csv", "context.csv")])
        choose_in(run, settings)


def check_origin(run: Path) -> None:
    """Raises UserError if scores.csv was made from other candidates, or candidates.csv from other comments. Their ids may be the same: a
    candidate's id is that of its comment and a number.
    """
    for name, field, source, remedy in (("scores", "candidates", "candidates", "rank"), ("candidates", "input", "comments", "generate")):
        manifest = files.read_manifest(run / f"{name}.csv")
        made_from = (manifest or {}).get("made_from", {}).get(field)
        if made_from is not None and files.sha256_of(run / f"{source}.csv") not in made_from:
            raise UserError(f"{run / name}.csv: made from another {source}.csv; run `{remedy}` again")


def choose_in(run: Path, settings: config.Settings) -> None:
    check_origin(run)
    comments = schema.read_rows(run / "comments.csv", Comment)
    candidates, scores = schema.read_rows(run / "candidates.csv", Candidate), schema.read_rows(run / "scores.csv", Scores)
    context = schema.read_rows(run / "context.csv", Context) if (run / "context.csv").exists() else []
    # except replies to these comments, so that a run that has already posted makes the same choice again
    own = own_texts(settings.submit.ledger, but_to={row.comment_id for row in candidates})
    with cli.waiting("checking the candidates"):
        rows, with_training = decide(comments, candidates, scores, context, own, settings)
    made_from = {
        "scores": files.sha256_of(run / "scores.csv"),
        "settings": settings.choose.model_dump(mode="json"),
        "conduct": settings.conduct.model_dump(mode="json"),
        "training_sketches": with_training,
    }
    schema.write_rows(run / "scored.csv", Scored, rows, made_from)
    chosen = (row for row in rows if row.verdict == Verdict.CHOSEN)
    schema.write_rows(run / "chosen.csv", Scored, chosen, made_from, chosen_utc=int(time.time()))
    print(summary(rows))
    if not with_training:
        sketches = settings.generate.model / copies.FILE
        print(f"not checked for copies of the training text: no {sketches}; see `run_bot.py train sketches --help`")
