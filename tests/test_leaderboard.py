"""leaderboard: each measure on rows that can be checked by hand, rows without files, the pages, and running what is missing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import config, files, schema
from bot.cli import UserError
from bot.evaluate import measures
from bot.evaluate.leaderboard import board, columns, command, fill, generators, models, page, rankers, retrieval, sample
from bot.evaluate.leaderboard.generators import Answers
from bot.evaluate.leaderboard.rankers import Inputs
from bot.evaluate.leaderboard.sample import Asked
from bot.rankers import score_files, scoring
from bot.schema import Candidate, Graded, Judgement, LabelledRow, LmRow, UpvotePair, UpvoteRow
from bot.weights import cards, serving
from tests import browser, tiny

HOSTILE = "<script>document.title='x'</script> | **\n&amp;"


def asked(*replies: Sequence[str]) -> list[Asked]:
    return [Asked(f"t3_{n}", f"t1_{n}", f"is it number {n} or not", tuple(own)) for n, own in enumerate(replies)]


def candidates(path: Path, replies: dict[str, str], generator: str = "g", **manifest: Any) -> Path:
    rows = [Candidate(comment_id, f"{comment_id}-0", 1, "?", reply, generator, None) for comment_id, reply in replies.items()]
    schema.write_rows(path, Candidate, rows, manifest.pop("made_from", {}), **manifest)
    return path


# --- measures -------------------------------------------------------------------------------------------------------------


def test_one_comment_of_each_thread_is_drawn_the_one_with_most_replies() -> None:
    rows = [LmRow(f"t3_{n}", f"t1_{n}{letter}", f"t1_r{n}{letter}", "s", "why", letter) for n in range(9) for letter in "abb"]
    drawn = sample.draw(rows, 4)
    assert len({each.thread_id for each in drawn}) == 4
    assert all(each.comment_id.endswith("b") and each.replies == ("b", "b") for each in drawn)
    assert sample.draw(rows, 4) == drawn and len(sample.draw(rows, 99)) == 9
    with pytest.raises(measures.TooFew, match="no rows"):
        sample.draw([], 4)
    pairs, threads = sample.likelihood_pairs([Asked("t3_a", "t1_a", "why", ("x" * 161, "x")), Asked("t3_b", "t1_b", "how", ("x" * 160,))])
    assert pairs == [("how", "x" * 160)] and threads == ["t3_b"]


def test_samples_are_of_the_sandbox_and_of_given_files(tmp_path: Path) -> None:
    own = sample.sample_comments([])
    assert len(own) == len({comment for _, comment in own}) == sample.SAMPLES and own == sample.sample_comments([])
    assert not any("[deleted]" in comment or "I am a bot" in comment for _, comment in own)
    source = tmp_path / "film.csv"
    schema.write_table(source, ["comment"], [{"comment": f"Line {n}!"} for n in range(30)])
    drawn = sample.sample_comments([source])
    mixed = [comment for _, comment in drawn]
    assert {*drawn} & {*own} and len({*dict(drawn)} | {*dict(own)}) == len({*drawn} | {*own})  # an id stands for one text
    assert len(mixed) == sample.SAMPLES and sum(comment.startswith("Line ") for comment in mixed) == sample.SAMPLES // 2


def test_measures_of_the_replies_alone() -> None:
    rows = asked(["no"], ["no"], ["no"], ["no"])
    measured = generators.of_texts(rows, ["is it number 0", "Yes yes", "yes", ""])
    assert measured["distinct_1"] == pytest.approx(5 / 7, abs=1e-4)  # is it number 0 yes yes yes
    assert measured["distinct_2"] == 1.0  # is-it it-number number-0 yes-yes
    assert measured["median_words"] == 1.5 and measured["echo"][0] == 0.25


def test_bleu_2_is_that_of_sacrebleu_on_the_whole_file() -> None:
    from sacrebleu.metrics.bleu import BLEU

    replies = ["The cat sat here", "no", "a dog ran far away"]
    references = [["the cat sat down", "a cat"], ["no"], ["the dog ran away"]]
    padded = [[own[place] if place < len(own) else None for own in references] for place in range(2)]
    expected = BLEU(max_ngram_order=2, lowercase=True).corpus_score(replies, padded)
    value, low, high = generators.bleu_2(replies, references, ["t3_a", "t3_b", "t3_c"])
    assert value == pytest.approx(expected.score, abs=1e-3) and low <= value <= high
    # 7 of 10 words and 3 of 7 pairs occur in a reference, and the replies are longer than those
    assert value == pytest.approx(100 * math.sqrt(7 / 10 * 3 / 7), abs=1e-3)
    assert generators.bleu_2(["so it is"], [["so it is"]], ["t3_a"])[0] == 100
    assert generators.bleu_2([""], [["so"]], ["t3_a"])[0] == 0


def test_bits_per_character_are_over_all_characters_and_need_all_likelihoods() -> None:
    nats = math.log(2) * np.array([-3.0, -1.0])
    assert generators.bits_per_character(nats, ["abcdefg", "h"], ["t3_a", "t3_b"])[0] == pytest.approx(0.5)  # not the mean of 3/7 and 1
    with pytest.raises(UserError, match="cannot count the tokens"):
        generators.bits_per_character(np.array([-1.0, np.nan]), ["a", "b"], ["t3_a", "t3_b"])


def test_the_detector_tells_other_letters_but_not_the_same_texts() -> None:
    threads = [f"t3_{n}" for n in range(20)]
    words = ["warm soup tonight", "rainy road trips", "good old novels", "more strong coffee"]
    people = [f"{words[n % 4]} and {words[(n + 1) % 4]}" for n in range(20)]
    zeros, ones = ([body.replace("o", digit) for body in people] for digit in "01")
    aucs = generators.detector_aucs(people, {"zeros": zeros, "ones": ones}, {"same": people, "other": zeros[::-1]}, threads)
    assert aucs["zeros"][0] == aucs["ones"][0] == aucs["other"][0] == 1.0
    value, low, high = aucs["same"]
    assert value == 0.5 and low <= 0.5 <= high
    unlike = [body.upper().replace("A", "4") for body in people]  # a baseline: the detector does not learn it
    assert generators.detector_aucs(people, {"zeros": zeros}, {"unlike": unlike}, threads)["unlike"][0] < 1.0
    with pytest.raises(measures.TooFew):
        generators.detector_aucs(people[:3], {"g": people[:3]}, {}, threads[:3])


class Longest:
    """A judge that prefers longer replies."""

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([len(reply) for _, reply in pairs], float)


def test_a_judge_compares_with_the_reply_of_the_person() -> None:
    rows = asked(["ab"], ["ab"], ["ab"], ["ab"])
    assert generators.beats_person(Longest(), rows, ["abc", "ab", "a", "abcd"])[0] == 0.625  # type: ignore[arg-type]


def test_acceptable_counts_random_candidates_of_the_same_model(tmp_path: Path) -> None:
    def judgement(n: int, source: str, pick: int, acceptable: tuple[bool, bool]) -> Judgement:
        facts = (
            f"p{n}",
            source,
            files.sha256_of(Path(source)) if Path(source).exists() else "0" * 64,
            "verdict",
            f"t1_{n}",
            "s",
            "",
            "why",
            "a",
            "so",
            "b",
            "no",
            pick,
        )
        return Judgement(*facts, who="ann", judged_utc=1, better=0, first_acceptable=acceptable[0], second_acceptable=acceptable[1])

    for name, model in (("mine", "m"), ("other", "o")):
        (tmp_path / name).mkdir()
        candidates(tmp_path / name / "candidates.csv", {"t1_a": "so"}, made_from={"model": model})
        (tmp_path / name / "scored.csv").write_text(f"scored by {name}")
    mine, other, gone = (str(tmp_path / name / "scored.csv") for name in ("mine", "other", "gone"))
    rows = [judgement(1, mine, 1, (False, True)), judgement(2, mine, 2, (False, True)), judgement(3, other, 1, (True, True))]
    share = generators.acceptable([*rows, judgement(4, gone, 1, (True, True))], "m")
    assert share and share[0] == 0.5  # of the two that are not picks
    assert generators.acceptable(rows, "unknown") is None
    (tmp_path / "mine" / "scored.csv").write_text("scored again, from other candidates")
    assert generators.acceptable(rows, "m") is None


# --- rankers --------------------------------------------------------------------------------------------------------------


def upvote_data(folder: Path) -> None:
    """Pairs that the rules of DialogRPT (1, 2) and SHP (1, 3) count. The longer reply wins in 1 and 3."""
    pairs = [
        UpvotePair("t3_1", "t1_1", "t1_1a", "t1_1b", "s", "why", "longer", "short", 29, 0.5),
        UpvotePair("t3_2", "t1_2", "t1_2a", "t1_2b", "s", "why", "short", "longer", 29, -0.5),
        UpvotePair("t3_3", "t1_3", "t1_3a", "t1_3b", "s", "why", "longer", "short", 4, 0.5),
        UpvotePair("t3_4", "t1_4", "t1_4a", "t1_4b", "s", "why", "longer", "short", 4, -0.5),
    ]
    karmas = {"t1_1": (30, 1), "t1_2": (30, 1), "t1_3": (8, 4), "t1_4": (8, 4)}
    rows = [
        UpvoteRow(pair.thread_id, pair.comment_id, reply_id, "s", "why", "x", karma, None)
        for pair in pairs
        for reply_id, karma in zip((pair.chosen_id, pair.rejected_id), karmas[pair.comment_id], strict=True)
    ]
    schema.write_rows(folder / "upvote_pairs_test.csv", UpvotePair, pairs)
    schema.write_rows(folder / "upvote_test.csv", UpvoteRow, rows)


def scored(task: rankers.Task, scorer: rankers.Baseline) -> dict[str, Any]:
    return {name: np.asarray(scorer(pairs), float) for name, pairs in task.sets.items()}


def test_pairwise_accuracy_by_both_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upvote_data(tmp_path)
    task = rankers.Upvote(Inputs(tmp_path, [], {}))
    longer = scored(task, rankers.longer)
    assert task.measure(longer, (), False) == {}  # each rule counts two pairs, which are too few
    monkeypatch.setattr(measures, "MIN_SCORED", 2)
    cells = task.measure(longer, (), False)
    assert {name: cells[name][0] for name in cells} == {"dialogrpt": 0.5, "shp": 1.0}
    even = scored(task, lambda pairs: np.full(len(pairs), 0.7))
    cells = task.measure(even, (), True)
    assert cells["dialogrpt"][0] == cells["shp"][0] == 0.5 and cells["calibration"][0] == 0.0
    with pytest.raises(files.FileError):
        rankers.Upvote(Inputs(tmp_path / "none", [], {}))


def test_auc_on_known_and_unseen_generators() -> None:
    rows = asked(["aaaa"], ["aaa"])
    answers = {
        "old": Answers({"t1_0": "a", "t1_1": "a"}, "ctranslate2:lm temperature=0.6", {}),
        "new": Answers({"t1_0": "aaaaa", "t1_1": "aaa"}, "another", {}),
    }
    task = rankers.Realism(Inputs(Path(), rows, answers))
    longer = scored(task, rankers.longer)
    cells = task.measure(longer, ["ctranslate2:lm temperature=0.6"], False)
    assert cells["auc_known"][0] == 1.0
    assert cells["auc_unseen"][0] == pytest.approx((0 + 1 + 0 + 0.5) / 4, abs=1e-4)
    assert task.measure(longer, (), False).keys() == {"auc_unseen"}
    certain = {name: np.full(2, float(name == "people")) for name in task.sets}
    assert task.measure(certain, None, True) == {"calibration": (0.0, 0.0, 0.0)}
    assert task.measure(longer, None, True).keys() == {"calibration"}  # its card does not say what it was trained on
    with pytest.raises(UserError, match="no candidate for 1 of 2 comments, such as t1_1"):
        rankers.Realism(Inputs(Path(), rows, {"cut": Answers({"t1_0": "a"}, "", {})}))


def test_hits_at_1_among_a_hundred(tmp_path: Path) -> None:
    rows = [LabelledRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", f"word{n}", f"word{n} so" if n % 4 else "so", 1) for n in range(160)]
    schema.write_rows(tmp_path / "relevance_test.csv", LabelledRow, rows)
    task = rankers.Relevance(Inputs(tmp_path, [], {}))
    same_word = scored(task, lambda pairs: [comment in reply.split() for comment, reply in pairs])
    assert task.measure(same_word, (), False).keys() == {"hits_at_1"}
    measured = task.measure(same_word, (), True)
    assert measured["hits_at_1"][0] == 0.75 and 0.05 < measured["calibration"][0] < 0.2  # a quarter of the own replies has 0
    schema.write_rows(tmp_path / "relevance_test.csv", LabelledRow, rows[:90])
    with pytest.raises(measures.TooFew, match="99 replies"):
        rankers.Relevance(Inputs(tmp_path, [], {}))


def test_accepted_candidates_that_are_held_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bot.train import graded

    names = {part: next(f"t1_{n}" for n in range(99) if graded.part_of(f"t1_{n}") == part) for part in ("train", "weights", "held_out")}
    rows = [Graded(name, "why", "x" * length, None, grade) for name in names.values() for length, grade in ((1, 3), (2, 0), (3, 2), (4, 1))]
    schema.write_rows(tmp_path / "graded.csv", Graded, rows)
    monkeypatch.setattr(graded, "FILE", tmp_path / "graded.csv")
    task = rankers.Choice(Inputs(tmp_path, [], {}))
    assert task.measure(scored(task, rankers.longer), (), False)["auc_accepted"][0] == 0.25  # of the four pairs, the longer wins in one
    surely = scored(task, lambda pairs: [0.9 for _ in pairs])
    assert task.measure(surely, (), True)["calibration"][0] == pytest.approx(0.4)  # half are accepted


def test_random_is_the_same_each_time_and_different_for_each_pair() -> None:
    pairs = [("why", f"so {n}") for n in range(200)]
    values = rankers.at_random(pairs)
    assert values.tolist() == rankers.at_random(pairs).tolist() and len(set(values)) == 200
    assert values.min() >= 0 and values.max() < 1 and abs(values.mean() - 0.5) < 0.1


def test_the_card_says_what_a_ranker_has_seen() -> None:
    card = cards.ModelCard("realism", "b", "0", "full", settings={"generators": ["g"]})
    assert rankers.known_generators(card) == ["g"]
    card.settings = {}
    assert rankers.known_generators(card) is None
    card = cards.ModelCard("upvote", "b", "0", "full", metrics={"left_out_gap_5": {"ranker": {"pairwise_accuracy": [0.6, 0.5, 0.7]}}})
    assert rankers.known_generators(card) is None and rankers.unseen_subreddits(card) == {"unseen": (0.6, 0.5, 0.7)}
    card.metrics = {}
    assert rankers.unseen_subreddits(card) == {}


# --- models ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[generators]\na = 3", "generators.a: expected the folder of a generator"),
        ('[generators]\na = { backend = "x" }', "generators.a: expected the folder of a generator"),
        ('[generators]\na = { model = "m", temperature = 9 }', "generators.a.temperature: Input should be less"),
        ('[generators]\na = { model = "m", colour = 9 }', "generators.a.colour: Extra inputs"),
        ('[generators]\nperson = "m"', "generators.person: not a name for a model"),
        ('[rankers]\n"../a" = "m"', "rankers.../a: not a name for a model"),
        ("[rankers]\na = 1", "rankers.a: expected the folder of a ranker"),
        ("rankers = 1", "rankers: expected a table of models"),
        ('[models]\na = "m"', "unknown table models"),
        ("[", "not readable as TOML"),
    ],
)  # fmt: skip
def test_a_wrong_list_of_models_is_an_error_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "leaderboard.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        models.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_model_is_one_line_and_its_card_names_the_back_end(tmp_path: Path) -> None:
    card = cards.ModelCard("lm", "b", "0", "full", settings={"backend": "gpt-2-simple", "pairs": 7}, hours=0.5, parameters=9)
    cards.write_card(tmp_path / "lm", card)
    path = tmp_path / "leaderboard.toml"
    path.write_text(
        f'[generators]\nown = "{tmp_path}/lm"\nwarm = {{ model = "m", temperature = 0.9, candidates = "c.csv" }}\n'
        'far = { candidates = "d.csv" }\n[rankers]\nr = "models/r"'
    )
    read = models.read(path)
    own, warm, far = read.generators.values()
    assert own.settings and (own.settings.backend, own.settings.num_candidates, own.candidates) == ("gpt-2-simple", 1, None)
    assert warm.settings and (warm.settings.backend, warm.settings.temperature, warm.candidates) == ("", 0.9, Path("c.csv"))
    assert far == models.Generator(None, Path("d.csv")) and read.rankers == {"r": Path("models/r")}
    facts = models.facts(tmp_path / "lm")
    assert facts.pop("mb", 0) < 0.01
    assert facts == {"family": "gpt-2-simple", "base": "b", "parameters": 9, "rows": 7, "hours": 0.5}


def test_parameters_are_counted_in_the_files(tmp_path: Path) -> None:
    folder = tiny.language_model(tmp_path / "lm")
    import torch
    from transformers import AutoModelForCausalLM

    expected = sum(parameter.numel() for parameter in AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).parameters())
    facts = models.facts(folder)
    assert facts["parameters"] == expected and facts["family"] == "gpt2" and "base" not in facts
    with pytest.raises(UserError, match="no model in"):
        models.facts(tmp_path / "none")


def test_the_shipped_list_names_the_shipped_models() -> None:
    read = models.read(board.FILE)
    assert {"models/upvote", "models/realism", "models/relevance", "models/choice"} <= set(map(str, read.rankers.values()))
    assert "models/lm" in {str(entry.settings.model) for entry in read.generators.values() if entry.settings}


# --- the board ------------------------------------------------------------------------------------------------------------

COMMENTS = 30
WORDS = ["soup", "road", "novel", "coffee", "window", "garden", "letter", "train", "winter", "lamp"]


def prepared(folder: Path) -> Path:
    """DATA with 70 test threads of two replies each; without files for realism and relevance."""
    folder.mkdir()
    rows = [
        LmRow(
            f"t3_{n}",
            f"t1_{n}",
            f"t1_{n}{k}",
            "s",
            f"What about the {WORDS[n % 10]}?",
            f"The {WORDS[n % 10]} is fine, {WORDS[(n + k) % 10]}.",
        )
        for n in range(70)
        for k in range(2)
    ]
    for each in ("train", "test"):
        schema.write_rows(folder / f"lm_{each}.csv", LmRow, rows)
    upvote_data(folder)
    return folder


@pytest.fixture(scope="module")
def board_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """DATA, and leaderboard.toml with a generator, one without files, an upvote ranker and one that was not scored; no model was run."""
    folder = tmp_path_factory.mktemp("board")
    data = prepared(folder / "data")
    drawn = sample.draw(schema.read_rows(data / "lm_test.csv", LmRow), COMMENTS)
    for name, kind in (("lm", "lm"), ("upvote", "upvote"), ("realism", "realism")):
        card = cards.ModelCard(kind, "none-such", "0", "full", settings={"pairs": 12})  # type: ignore[arg-type]
        cards.write_card(folder / name, card)
    out = folder / "out"
    replies = {each.comment_id: f"Wow, {WORDS[n % 10]} again!" for n, each in enumerate(drawn)} | {"sample_1": HOSTILE}
    facts = {"words": 90, "seconds": 2.0, "peak_mb": 100.0}
    settings = config.GenerateSettings(num_candidates=1).model_dump(mode="json")
    made_from = {"model": serving.fingerprint(folder / "lm"), "settings": settings}
    candidates(out / "candidates" / "small.csv", replies, made_from=made_from, speed=facts)
    asked = [{"comment_id": each.comment_id, "comment": each.comment} for each in drawn], [{"comment_id": "sample_1", "comment": HOSTILE}]
    for name, rows in zip(("comments.csv", "samples.csv"), asked, strict=True):
        schema.write_table(out / name, ["comment_id", "comment"], rows)
    facts_of_retrieval = retrieval.made_from([out / "comments.csv", out / "samples.csv"], data)
    candidates(out / "candidates" / "retrieval.csv", {each.comment_id: each.replies[1] for each in drawn}, made_from=facts_of_retrieval)
    score_by_length(folder, out)
    (folder / "leaderboard.toml").write_text(
        f'[generators]\nsmall = "{folder}/lm"\nabsent = "{folder}/nowhere"\n[rankers]\nup = "{folder}/upvote"\nreal = "{folder}/realism"\n'
    )
    yield folder


def score_by_length(folder: Path, out: Path) -> None:
    """The score file of the upvote ranker, as if the longer reply scored higher."""
    task = rankers.Upvote(Inputs(folder / "data", [], {}))
    source = out / "scores" / "up" / "upvote_pairs_test.csv"
    pairs = list(dict.fromkeys(task.sets["upvote_pairs_test"]))
    schema.write_table(source, ["comment", "reply"], [{"comment": comment, "reply": reply} for comment, reply in pairs])
    made_from = scoring.made_from(source, scoring.by_model(folder / "upvote", config.RankSettings()))
    rows = [{"comment": comment, "reply": reply, "upvote_score": len(reply) / 100} for comment, reply in pairs]
    path = source.with_name("upvote_pairs_test.upvote.csv")
    schema.write_table(path, ["comment", "reply", "upvote_score"], rows, made_from, speed={"pairs": 6, "seconds": 0.5, "peak_mb": 1.0})


def build(folder: Path) -> None:
    """Run the command, which must not run a model."""

    def start(*_: Any) -> None:
        raise AssertionError("the leaderboard ran a model")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "MIN_SCORED", 2)
        patch.setattr(sample, "COMMENTS", COMMENTS)
        patch.setattr(score_files, "start", start)
        command.main(folder / "data", folder / "out", folder / "leaderboard.toml")


@pytest.fixture(scope="module")
def built(board_folder: Path) -> dict[str, Any]:
    build(board_folder)
    result: dict[str, Any] = json.loads((board_folder / "out" / "leaderboard.json").read_text())
    return result


def test_one_row_a_model_with_empty_cells_for_what_is_missing(built: dict[str, Any], board_folder: Path) -> None:
    rows, missing = built["generators"], built["missing"]
    assert list(rows) == ["small", "absent", "person", "random", "retrieval"]
    assert rows["small"]["rows"] == 12 and rows["small"]["words_per_second"] == 45.0 and rows["small"]["memory_mb"] == 100.0
    assert rows["small"]["median_words"] == 3.0 and rows["small"]["distinct_1"] < rows["person"]["distinct_1"] * 2
    assert rows["small"]["detector"][0] == 1.0 and rows["small"]["bleu_2"][0] < rows["retrieval"]["bleu_2"][0] == 100.0
    assert rows["absent"] == {} and "bits" not in rows["small"] and "acceptable" not in rows["small"]
    for line in (
        "absent, facts: no model in",
        "absent, candidates: ",
        "small, bits per character: ",
        "judge real: ",
        "acceptable: no judgements",
    ):
        assert any(each.startswith(line) for each in missing), (line, missing)
    assert "small, licence: not in its card" not in missing and any("small, family, parameters, training hours" in each for each in missing)

    ranked = built["rankers"]
    assert list(ranked) == ["up", "real", "longer", "random", "tfidf"]
    assert ranked["up"]["dialogrpt"][0] == ranked["longer"]["dialogrpt"][0] == 0.5 and ranked["up"]["shp"][0] == 1.0
    assert ranked["up"]["pairs_per_second"] == 12.0 and "calibration" in ranked["up"] and "calibration" not in ranked["longer"]
    assert any(each.startswith("real, scores: ") and each.endswith("people.realism.csv is missing or not current") for each in missing)
    assert "up, unseen subreddits: not measurable, or not in its card" in missing
    assert any(each.startswith("rankers, relevance: ") for each in missing) and any(each.startswith("tfidf, upvote: ") for each in missing)


def test_the_same_files_give_the_same_pages(built: dict[str, Any], board_folder: Path) -> None:
    out = board_folder / "out"
    before = {name: (out / name).read_bytes() for name in command.OUTPUT_MARKERS}
    build(board_folder)
    assert {name: (out / name).read_bytes() for name in command.OUTPUT_MARKERS} == before


def test_pages_escape_text_and_refuse_foreign_files(built: dict[str, Any], board_folder: Path, tmp_path: Path) -> None:
    samples = (board_folder / "out" / "samples.html").read_text()
    assert "&lt;script&gt;document.title" in samples and "<script" not in samples and "&amp;amp;" in samples
    rows = {"<b>x": {"family": HOSTILE}, "y": {"family": "bert"}}
    result = {"leaderboard": {"comments": 1, "likelihoods": 1}, "generators": rows, "rankers": {}, "missing": [HOSTILE]}
    pages = page.pages(result, [])
    assert "<b>x" not in pages["leaderboard.html"] and pages["leaderboard.html"].count("<script>") == 1
    assert "document.title='x'" not in pages["leaderboard.html"].split("<script>")[1]
    (tmp_path / "leaderboard.md").write_text("mine")
    with pytest.raises(files.FileError, match="did not write it"):
        command.main(board_folder / "data", tmp_path, board_folder / "leaderboard.toml")


def board_of(folder: Path, entry: models.Generator) -> board.Board:
    """A board of one generator, small, that is asked two comments."""
    return board.Board(folder, folder, models.Models({"small": entry}, {}), asked(["no"], ["yes"]))


@pytest.mark.parametrize("changed", [{}, {"model": "0"}, {"settings": {}}, {"settings": {"temperature": 0.1}}])
def test_candidates_of_another_model_or_of_other_settings_are_missing(changed: dict[str, Any], board_folder: Path, tmp_path: Path) -> None:
    entry = models.read(board_folder / "leaderboard.toml").generators["small"]
    assert entry.settings
    settings = {**entry.settings.model_dump(mode="json"), "model": "elsewhere"}
    made_from = {"model": serving.fingerprint(board_folder / "lm"), "settings": settings, **changed}
    path = candidates(tmp_path / "candidates" / "small.csv", {"t1_0": "so", "t1_1": "no"}, made_from=made_from)
    own, named = (board_of(tmp_path, each) for each in (entry, models.Generator(entry.settings, path)))
    assert named.read_answers("small", named.models.generators["small"]).replies["t1_0"] == "so"  # the user named the file
    if changed:
        with pytest.raises(UserError, match="another version of the model or with other settings"):
            own.read_answers("small", entry)
    else:
        assert own.read_answers("small", entry) is own.answers["small"]


def test_a_generator_without_a_candidate_for_each_comment_is_left_out(tmp_path: Path) -> None:
    """Otherwise realism rankers could not be measured on the other generators."""
    entry = models.Generator(None, candidates(tmp_path / "small.csv", {"t1_0": "so"}))
    own = board_of(tmp_path, entry)
    with pytest.raises(UserError, match="no candidate for 1 of 2 comments, such as t1_1"):
        own.read_answers("small", entry)
    assert own.answers == {}


def test_retrieval_of_other_comments_or_training_text_is_missing(
    built: dict[str, Any], board_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "COMMENTS", COMMENTS)
    assert "median_words" in built["generators"]["retrieval"]
    shutil.copytree(board_folder / "out", tmp_path / "out")
    schema.write_table(tmp_path / "out" / "samples.csv", ["comment_id", "comment"], [{"comment_id": "sample_2", "comment": "Why?"}])
    command.main(board_folder / "data", tmp_path / "out", board_folder / "leaderboard.toml")
    result = json.loads((tmp_path / "out" / "leaderboard.json").read_text())
    assert "retrieval" not in (tmp_path / "out" / "samples.html").read_text()
    assert "retrieval" not in result["generators"] and any("of other comments or other training text" in each for each in result["missing"])


def test_markdown_has_the_best_value_in_bold() -> None:
    rows = {"a": {"bits": (1.5, 1.4, 1.6)}, "b": {"bits": (1.25, 1.2, 1.3)}, "person": {}}
    lines = page.markdown({"generators": rows, "rankers": {}, "missing": []}).splitlines()
    assert lines[1:3] == ["| generator | bits per character |", "|---|---|"]
    assert lines[3:] == ["| a | 1.500 [1.400 – 1.600] |", "| b | **1.250** [1.200 – 1.300] |", "| person |  |"]
    assert columns.best({"a": {"bits": 1.0}}, {"bits": columns.GENERATOR_COLUMNS["bits"]}) == {}


def test_a_click_on_a_heading_sorts_the_table(tmp_path: Path) -> None:
    rows = {
        "a": {"family": "llama", "bits": (1.5, 1.4, 1.6), "median_words": 9.0},
        "b": {"family": "bert", "bits": (1.25, 1.2, 1.3), "median_words": 10.0},
        "person": {"median_words": 11.5},
    }
    result = {"leaderboard": {"comments": 3, "likelihoods": 2}, "generators": rows, "rankers": {}, "missing": ["a, BLEU-2: why"]}
    page.write(result, [("Why?", {"a": "So."})], tmp_path)
    with browser.started() as chromium:
        shown = chromium.new_page()
        problems: list[str] = []
        shown.on("console", lambda message: problems.append(message.text))
        shown.goto((tmp_path / "leaderboard.html").as_uri())

        def order() -> list[str]:
            return shown.locator("#generators + .panel tbody th").all_inner_texts()

        assert order() == ["a", "b", "person"]
        for heading, expected in (
            ("bits per character", ["a", "b", "person"]), ("bits per character", ["b", "a", "person"]),
            ("median words", ["person", "b", "a"]), ("family", ["a", "b", "person"]), ("model", ["person", "b", "a"]),
        ):  # fmt: skip
            shown.get_by_role("button", name=heading).first.click()
            assert order() == expected, heading
        assert not problems and browser.accessibility_problems(shown) == [] and not browser.scrolls_sideways(shown)
        shown.goto((tmp_path / "samples.html").as_uri())
        assert "So." in shown.inner_text("dl") and browser.accessibility_problems(shown) == [] and not problems


# --- what is missing is run -----------------------------------------------------------------------------------------------


def test_nearest_is_by_cosine() -> None:
    known = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    assert retrieval.nearest(np.array([[0.0, 1.0], [0.8, 0.6]]), known) == [2, 1]


def test_retrieval_answers_with_the_reply_to_the_nearest_training_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoder:
        def encode(self, texts: list[str], batch_size: int = 32) -> np.ndarray:
            vectors = np.array([[text.count("a"), text.count("b")] for text in texts], float)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    monkeypatch.setattr(retrieval.rankers, "load_base", lambda name: Encoder())
    monkeypatch.setattr(retrieval.bases, "base_sha256", lambda name: "0")
    threads = tiny.numbers_of_rankers("t", 2)
    other = next(n for n in range(99) if n not in tiny.numbers_of_rankers("t", 99))  # in the judges' half
    rows = [("aab", "first", threads[0]), ("abb", "second", threads[1]), ("ab", "of the judges", other)]
    training = [LmRow(f"t3_t{n}", f"t1_{n}", f"t1_r{n}", "s", comment, reply) for comment, reply, n in rows]
    schema.write_rows(tmp_path / "lm_train.csv", LmRow, training)
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    schema.write_table(
        source, ["comment_id", "comment"], [{"comment_id": "t1_x", "comment": "abbb"}, {"comment_id": "t1_y", "comment": "*aaa*"}]
    )
    retrieval.main([source], out, tmp_path)
    answers = generators.read_answers(out)
    assert answers.replies == {"t1_x": "second", "t1_y": "first"} and answers.manifest["speed"]["words"] == 2
    before = out.stat().st_mtime_ns
    retrieval.main([source], out, tmp_path)
    assert out.stat().st_mtime_ns == before


def test_fill_runs_what_is_missing_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sample, "COMMENTS", 4)
    monkeypatch.setattr(sample, "SAMPLES", 2)
    data = prepared(tmp_path / "data")
    tiny.language_model(tmp_path / "lm")
    tiny.encoder(tmp_path / "upvote")
    cards.write_card(tmp_path / "upvote", cards.ModelCard("upvote", "none-such", "0", "full"))
    toml = tmp_path / "leaderboard.toml"
    toml.write_text(
        f'[generators]\nsmall = {{ model = "{tmp_path}/lm", backend = "transformers", max_new_tokens = 5 }}\nabsent = "{tmp_path}/none"\n'
        f'[rankers]\nup = "{tmp_path}/upvote"\n'
    )
    started: list[str] = []

    def start(arguments: list[str], variables: dict[str, Any]) -> None:
        if arguments[0] == "leaderboard":
            raise UserError("no encoder")
        started.append(arguments[0])
        tiny.start_in_process(arguments, {**variables, "RANK__BACKEND": "transformers"})

    for module in (score_files, fill):
        monkeypatch.setattr(module, "start", start)
    monkeypatch.setenv("BOT_RANK__BACKEND", "transformers")
    out = tmp_path / "out"
    fill.fill_command(data, out, toml)
    assert started == ["generate", "score", "generate", "score"]  # the second generator fails
    printed = capsys.readouterr().out
    assert "missing: absent, candidates: " in printed and "missing: retrieval: no encoder" in printed
    fill.fill_command(data, out, toml)
    assert started[4:] == ["generate", "generate"]  # which finds that its file is current

    command.main(data, out, toml)
    result = json.loads((out / "leaderboard.json").read_text())
    small, up = result["generators"]["small"], result["rankers"]["up"]
    assert small["bits"][0] > 0 and small["words_per_second"] > 0 and small["memory_mb"] > 1
    assert up["pairs_per_second"] > 0 and up["calibration"][0] >= 0
    assert (out / "candidates" / "small.csv").read_text().count("sample_") == 4 and "<dt>small</dt>" in (out / "samples.html").read_text()
    by_hand = generators.bits_per_character  # the same likelihoods, from the score file
    _, rows = schema.read_table(out / "scores" / "small" / "people.lm.csv", ["log_likelihood", "tokens"])
    pairs, threads = sample.likelihood_pairs(sample.draw(schema.read_rows(data / "lm_test.csv", LmRow), 4))
    nats_of = {(row["comment"], row["reply"]): float(row["log_likelihood"]) * int(row["tokens"]) for row in rows}
    assert small["bits"] == list(by_hand(np.array([nats_of[pair] for pair in pairs]), [reply for _, reply in pairs], threads))
