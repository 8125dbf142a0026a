"""leaderboard: every generator and every ranker in one table, measured on the same rows, with baselines. Runs no model.

Reads  leaderboard.toml (--models, see models.py), the models' cards, DATA (the output of `prepare`), judgements.csv of `judge`, and what
       `leaderboard fill` wrote into OUT: candidates/NAME.csv, and scores/NAME/ with score files (see rankers.score_files).
Writes OUT/leaderboard.json, leaderboard.html (sortable), leaderboard.md, and samples.html: the same comments answered by each generator.

    python run_bot.py leaderboard fill --data data/prepared --out data/leaderboard    runs the models where a file is missing
    python run_bot.py leaderboard --data data/prepared --out data/leaderboard
    make leaderboard                                                                  both

What is missing is an empty cell and a line "missing: …". The same files give the same output. The judges and the detector are linear models
that are fitted here, in a minute. Intervals are from a bootstrap over threads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import files, schema
from bot.cli import UserError
from bot.evaluate import judge as reading
from bot.evaluate import judges, measures
from bot.evaluate.evaluate import check_outputs
from bot.evaluate.leaderboard import generators, models, rankers, retrieval, sample
from bot.evaluate.leaderboard.board import FILE, Board, bits, make_tasks, read_board
from bot.evaluate.leaderboard.columns import FACTS, GENERATOR_COLUMNS, RANKER_COLUMNS, TASK_COLUMNS
from bot.schema import Judgement, LmRow, sample_rows
from bot.weights import cards, serving

OUTPUT_MARKERS = {
    "leaderboard.json": '"leaderboard": {', "leaderboard.html": "<title>Leaderboard", "samples.html": "<title>Samples",
    "leaderboard.md": "<!-- leaderboard -->",
}  # fmt: skip


# --- generators -----------------------------------------------------------------------------------------------------------


def measure_generators(board: Board, judgements: Path | None) -> None:
    """Fill the rows of the generators and of their baselines."""
    fitted: dict[str, judges.Judge] = {}
    for name in judges.JUDGES:
        with board.skipping(f"judge {name}"):
            fitted[name] = judges.fit_judge(name, board.data, sample.SEED)[0]
    read = schema.read_rows(judgements, Judgement) if judgements else []
    if not read:
        board.missing.append("acceptable: no judgements; read some with `run_bot.py judge`")
    generated: dict[str, Sequence[str]] = {}
    for name, entry in board.models.generators.items():
        row = board.generators[name] = {}
        if entry.settings:
            add_facts(board, row, name, entry.settings.model, entry.settings.backend)
            with board.skipping(f"{name}, bits per character"):
                row["bits"] = bits(board, name, entry)
        with board.skipping(f"{name}, candidates"):
            answers = board.read_answers(name, entry)
            row |= generators.speed(answers.manifest)
            generated[name] = answers.of(board.asked)
            measure_replies(board, row, name, generated[name], fitted)
        if (
            entry.settings
            and entry.settings.model.is_dir()
            and (share := generators.acceptable(read, serving.fingerprint(entry.settings.model)))
        ):
            row["acceptable"] = share
    baselines = add_generator_baselines(board, fitted)
    with board.skipping("detector"):
        if not generated:
            raise measures.TooFew("no generator has candidates")
        people, threads = [each.replies[0] for each in board.asked], [each.thread_id for each in board.asked]
        for name, auc in generators.detector_aucs(people, generated, baselines, threads).items():
            board.generators[name]["detector"] = auc


def add_generator_baselines(board: Board, fitted: Mapping[str, judges.Judge]) -> dict[str, Sequence[str]]:
    """person: people's first replies. random: people's replies to other comments. retrieval: see retrieval.py. Returns the replies of the
    last two.
    """
    replies: dict[str, Sequence[str]] = {}
    person = board.generators["person"] = {}
    first = [each.replies[0] for each in board.asked]
    person |= generators.of_texts(board.asked, first)
    add_bleu(board, person, "person", first)
    with board.skipping("random"):
        inside = {each.thread_id for each in board.asked}
        others = [row.reply for row in schema.read_rows(board.data / "lm_test.csv", LmRow) if row.thread_id not in inside]
        if len(others) < len(board.asked):
            raise measures.TooFew(f"lm_test.csv has only {len(others)} replies of threads that are not measured")
        row = board.generators["random"] = {}
        replies["random"] = sample_rows(others, len(board.asked), sample.SEED)
        measure_replies(board, row, "random", replies["random"], fitted)
    with board.skipping("retrieval"):
        path = board.candidates("retrieval")
        if path.exists() and (files.read_manifest(path) or {}).get("made_from") != retrieval.made_from(board.comments, board.data):
            raise UserError(f"{path}: of other comments or other training text; run `leaderboard fill`")
        answers = board.read_answers("retrieval")
        row = board.generators["retrieval"] = generators.speed(answers.manifest)
        replies["retrieval"] = answers.of(board.asked)
        measure_replies(board, row, "retrieval", replies["retrieval"], fitted)
    return replies


def measure_replies(board: Board, row: dict[str, Any], name: str, replies: Sequence[str], fitted: Mapping[str, judges.Judge]) -> None:
    """Add the measures that need the replies of this model alone."""
    row |= generators.of_texts(board.asked, replies)
    add_bleu(board, row, name, replies)
    row |= {judge: generators.beats_person(judged, board.asked, replies) for judge, judged in fitted.items()}


def add_bleu(board: Board, row: dict[str, Any], name: str, replies: Sequence[str]) -> None:
    """BLEU-2 against people's replies but the first, which is the row `person`, so that all rows have the same references."""
    with_others = [(each, reply) for each, reply in zip(board.asked, replies, strict=True) if len(each.replies) > 1]
    with board.skipping(f"{name}, BLEU-2"):
        if len(with_others) < measures.MIN_SCORED:
            raise measures.TooFew(f"only {len(with_others)} comments have two replies of people")
        references = [each.replies[1:] for each, _ in with_others]
        row["bleu_2"] = generators.bleu_2([reply for _, reply in with_others], references, [each.thread_id for each, _ in with_others])


# --- rankers --------------------------------------------------------------------------------------------------------------


def measure_rankers(board: Board) -> None:
    """Fill the rows of the rankers and of their baselines."""
    tasks = make_tasks(board)
    for name, folder in board.models.rankers.items():
        row = board.rankers[name] = {}
        add_facts(board, row, name, folder)
        with board.skipping(f"{name}, scores"):
            card = cards.read_card(folder)
            if card.kind not in rankers.TASKS:
                raise UserError(f"{folder}: a model of kind {card.kind}, not a ranker")
            row |= rankers.unseen_subreddits(card) if card.kind == "upvote" else {}
            if card.kind in tasks:
                row |= measure_ranker(board, name, folder, tasks[card.kind], card)
            note_missing(
                board,
                name,
                [each for each in TASK_COLUMNS[card.kind] if each not in row],
                RANKER_COLUMNS,
                "not measurable, or not in its card",
            )
    untrained = {"longer": rankers.longer, "random": rankers.at_random}
    for name, scorer in untrained.items():
        board.rankers[name] = {}
        for task in tasks.values():
            board.rankers[name] |= task.measure({each: scorer(pairs) for each, pairs in task.sets.items()}, (), False)
    board.rankers["tfidf"] = {}
    for kind, task in tasks.items():
        with board.skipping(f"tfidf, {kind}"):
            fitted, known = task.tfidf()
            board.rankers["tfidf"] |= task.measure({each: fitted(pairs) for each, pairs in task.sets.items()}, known, False)


def measure_ranker(board: Board, name: str, folder: Path, task: rankers.Task, card: cards.ModelCard) -> dict[str, Any]:
    """The measures of a ranker from its score files, and its speed. Raises UserError if a file is missing or not current."""
    scores = board.scores(name)
    scorer = scores.of_model(folder)
    row = task.measure({each: scorer(pairs, each) for each, pairs in task.sets.items()}, rankers.known_generators(card), True)
    speeds = [(files.read_manifest(scores.path(each, folder.absolute().name)) or {}).get("speed", {}) for each in task.sets]
    pairs, seconds = (sum(each.get(fact, 0) for each in speeds) for fact in ("pairs", "seconds"))
    return row | ({"pairs_per_second": round(pairs / seconds, 1)} if pairs and seconds else {})


# --- both -----------------------------------------------------------------------------------------------------------------


def add_facts(board: Board, row: dict[str, Any], name: str, folder: Path, back_end: str = "") -> None:
    """Add the facts of a model, and record those that are not known."""
    with board.skipping(f"{name}, facts"):
        row |= models.facts(folder, back_end)
        expected = [each for each in FACTS if each not in row and not (each == "licence" and row.get("base") == "none")]
        note_missing(board, name, expected, FACTS, "not in its card")


def note_missing(board: Board, name: str, absent: Sequence[str], columns: Mapping[str, Any], reason: str) -> None:
    if absent:
        board.missing.append(f"{name}, {', '.join(columns[each].label for each in absent)}: {reason}")


def main(
    data: Annotated[Path, typer.Option(help="folder of prepared files")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="folder of `leaderboard fill`; the pages are written here, too")] = Path("data/leaderboard"),
    models_file: Annotated[Path, typer.Option("--models", help="TOML file that names the models")] = FILE,
    judgements: Annotated[Path | None, typer.Option(help=f"answers of `judge` [default: {reading.JUDGEMENTS}, if it exists]")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Compare all generators and rankers: a sortable page, Markdown and JSON. Runs no model; see `leaderboard fill`."""
    from bot.evaluate.leaderboard import page  # importing matplotlib takes a second

    check_outputs(out, OUTPUT_MARKERS, overwrite)
    board = read_board(data, out, models_file)
    if judgements is None and reading.JUDGEMENTS.exists():
        judgements = reading.JUDGEMENTS
    measure_generators(board, judgements)
    measure_rankers(board)
    result = {
        "leaderboard": {"comments": len(board.asked), "likelihoods": len(sample.likelihood_pairs(board.asked)[0]), "data": str(data)},
        "generators": {name: ordered(row, GENERATOR_COLUMNS) for name, row in board.generators.items()},
        "rankers": {name: ordered(row, RANKER_COLUMNS) for name, row in board.rankers.items()},
        "missing": board.missing,
    }
    with files.atomic_writer(out / "leaderboard.json") as file:
        json.dump(result, file, indent=1, allow_nan=False, ensure_ascii=False)
        file.write("\n")
    page.write(result, samples(board), out)
    print(*(out / name for name in OUTPUT_MARKERS), sep="\n")


def ordered(row: Mapping[str, Any], columns: Mapping[str, Any]) -> dict[str, Any]:
    """The cells of a row that are on the board, in the order of the columns."""
    return {name: row[name] for name in columns if name in row}


def samples(board: Board) -> list[tuple[str, dict[str, str]]]:
    """(comment, its reply by generator), of the comments for the page of samples."""
    path = board.comments[1]
    if not path.exists():
        return []
    rows = schema.read_table(path, ["comment_id", "comment"])[1]
    names = [name for name in (*board.models.generators, "retrieval") if name in board.answers]
    return [
        (
            row["comment"],
            {name: board.answers[name].replies[row["comment_id"]] for name in names if row["comment_id"] in board.answers[name].replies},
        )
        for row in rows
    ]
