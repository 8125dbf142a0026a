"""The conduct classifiers: training, thresholds, export, the stages that use them, and the shipped models on clear lines."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import rankers, schema
from bot.cli import ROOT, UserError
from bot.conduct import what, where
from bot.conduct.reasons import Reason
from bot.conduct.what import Unfit
from bot.config import ConductSettings, FetchSettings, Settings
from bot.evaluate.model import measure_conduct
from bot.export import to_ctranslate2
from bot.online import check, fetch
from bot.rankers import classifier, transformers
from bot.rankers import ctranslate2 as serving_rankers
from bot.reddit.threads import Thread, ThreadComment
from bot.schema import ConductLine, LmRow
from bot.train import conduct_transformers, thresholds
from bot.weights import bases, cards, pull, serving
from tests import tiny

NOW = 1_700_000_000
LABELS = ["crisis", "grief", "serious"]
TEXTS = [*tiny.TEXT, "short", "a b c d e f g " * 40, ""]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A classifier with a random encoder and head."""
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    folder = tiny.encoder(tmp_path / "labels", head=False)
    cards.write_card(folder, cards.ModelCard("conduct", "tiny", "0" * 64, "full", settings={"architecture": "labels", "labels": LABELS}))
    random = np.random.default_rng(0)
    np.savez(folder / serving.HEAD_FILE, weight=random.normal(size=(3, 32)).astype(np.float32), bias=np.float32([0.5, -0.5, 0]))
    to_ctranslate2.export(folder, "float32")  # here, because another process would import PyTorch again
    return folder


def test_the_export_equals_transformers(source: Path) -> None:
    expected = rankers.load("transformers", source).logits(TEXTS)  # type: ignore[attr-defined]
    model = serving_rankers.load_labels(source, "float32")
    assert expected.shape == (len(TEXTS), 3) and expected.std(0).min() > 0.05
    assert model.labels == LABELS
    assert model.logits(TEXTS) == pytest.approx(expected, abs=tiny.rounding(largest=10))
    assert model.logits(TEXTS[::-1], batch_size=2)[::-1] == pytest.approx(expected, abs=tiny.rounding(largest=10))


def test_classifiers_and_rankers_are_not_interchangeable(source: Path, tmp_path: Path) -> None:
    ranker = tiny.encoder(tmp_path / "ranker")
    to_ctranslate2.export(ranker, "float32")
    with pytest.raises(UserError, match="not a conduct classifier; set conduct.comment_classifier"):
        serving_rankers.load_labels(ranker, "float32")
    with pytest.raises(UserError, match="a conduct classifier, not a ranker"):
        serving_rankers.load_export(to_ctranslate2.export(source, "float32"))
    nothing = ConductSettings(comment_classifier=tmp_path / "nothing", reply_classifier=tmp_path / "nothing")
    with pytest.raises(UserError, match="no model here"):
        classifier.judge_replies(["Fair enough."], nothing)
    with pytest.raises(UserError, match="no model here"):
        classifier.judge_pieces(["fair enough"], nothing)


def test_a_long_text_is_judged_by_its_worst_piece() -> None:
    def logits(pieces: Sequence[str]) -> np.ndarray:
        return np.array([[piece.count("bad") / (1 + piece.count(" ")), -len(piece)] for piece in pieces])

    long = f"{'It is all fine here today. ' * 6}Bad bad, so bad. {'It is all fine here today. ' * 6}"
    whole, empty = classifier.of_texts(logits, [long, " "], "reply")
    assert whole[0] > 2 * logits([long])[0, 0] and whole[1] > -80
    assert empty.tolist() == [0, 0]


def test_settings_without_a_classifier() -> None:
    none = Settings().conduct
    assert none.comment_classifier is None and none.reply_classifier is None  # the tests' settings
    assert classifier.judge_replies(["a", "b"], none) == [{}, {}] and classifier.judge_pieces(["a"], none) == {}
    assert ConductSettings().reply_classifier == Path("models/conduct-reply")


# --- thresholds -------------------------------------------------------------------------------------------------------------------


def test_thresholds_keep_the_limits_and_detect_outliers() -> None:
    random = np.random.default_rng(0)
    targets = np.zeros((600, 2), bool)
    targets[:100, 0] = targets[100:200, 1] = True
    logits = random.normal(size=(600, 2)) + 6 * targets
    peoples = random.normal(size=(500, 2))
    fitted = thresholds.fit(logits, targets, peoples, ["threat", "insult"], "reply")
    applied = fitted.applied(logits)
    assert applied[targets].mean() > 0.97
    assert applied[~targets.any(1)].any(1).mean() <= 0.05 and fitted.applied(peoples).any(1).mean() <= 0.04
    hopeless = thresholds.fit(random.normal(size=(600, 2)), targets, peoples, ["threat", "insult"], "reply")
    assert hopeless.applied(peoples).any(1).mean() <= 0.04


def test_figures_count_any_label() -> None:
    lines = [ConductLine("threat", True, "a"), ConductLine("threat", True, "b"), ConductLine("everyday", False, "c")]
    applied = np.array([[False, True], [False, False], [True, False]])
    result = thresholds.figures(applied, lines, np.array([[False, False], [True, True], [False, False], [False, False]]))
    assert result == {
        "misses": {"threat": "1/2"}, "false_refusals": {"everyday": "1/1"}, "peoples_texts_refused": 0.25, "peoples_texts": 4,
    }  # fmt: skip


# --- training ---------------------------------------------------------------------------------------------------------------------


def test_a_classifier_learns_its_lines_and_two_are_averaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each label depends on one word; both words are in the vocabulary of tiny.TEXT."""
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny-encoder", tiny.encoder(tmp_path / "encoder", head=False))
    words = ["book", "short", "funny", "kind", "minutes", "normal", "boil", "essay"]
    rows = [(word, f"{word} {one} {two}") for word in ("book", "boil", "kind") for one in words for two in words if one != two]
    kinds = {"book": ("insult", True), "boil": ("threat", True), "kind": ("everyday", False)}
    lines = [ConductLine(*kinds[word], f"{text} {n}") for word, text in rows for n in (1, 2) if not set(kinds) - {word} & set(text.split())]
    schema.write_rows(tmp_path / "lines.csv", ConductLine, lines)
    for part in ("train", "val", "test"):
        people = [LmRow(f"t3_{n}", f"t1_c{n}", f"t1_{n}", "sandbox_books", "why", f"kind {n} kind normal") for n in range(60)]
        schema.write_rows(tmp_path / f"lm_{part}.csv", LmRow, people)
    out, other, mean = (tmp_path / name for name in ("out", "other", "mean"))
    small = {"epochs": 6, "batch_tokens": 256, "learning_rate": 5e-3, "background": 30}
    given: dict[str, Any] = {"base": "tiny-encoder", "lines": tmp_path / "lines.csv", "data": tmp_path}
    tiny.train("conduct", out=out, **given, **small)
    card = cards.read_card(out)
    assert card.kind == "conduct" and card.settings["labels"] == ["insult", "threat"] and card.data["lm_train.csv"]["rows"] == 60
    assert card.metrics["peoples_texts_refused"] <= 0.04
    missed, of = (sum(int(each.split("/")[place]) for each in card.metrics["misses"].values()) for place in (0, 1))
    assert of == sum(line.refuse and conduct_transformers.part_of(line.text) == "held_out" for line in lines) > 10 and missed / of < 0.2
    to_ctranslate2.export(out, "int8")  # in this process, where the base is available
    conduct = ConductSettings(reply_classifier=out)
    threat, insult, fine = classifier.judge_replies(["boil funny essay", "book funny essay", "kind funny minutes"], conduct)
    assert threat["threat"] > 0.5 > threat["insult"] and insult["insult"] > 0.5 > insult["threat"] and max(fine.values()) < 0.5

    measured = measure_conduct(out, card, tmp_path)  # as `evaluate --model` does, on the same lines
    assert measured["misses"].keys() == card.metrics["misses"].keys() and measured["peoples_texts"] == card.metrics["peoples_texts"]
    missed_as_served = sum(int(each.split("/")[0]) for each in measured["misses"].values())
    assert abs(missed_as_served - missed) <= 2 and measured["peoples_texts_refused"] <= 0.04

    tiny.train("conduct", out=other, seed=2, **given, **small)
    tiny.train("conduct", out=mean, average=[out, other], **given)
    one, two, both = (transformers.load(folder) for folder in (out, other, mean))
    weights = [each.encoder.model.state_dict() for each in (one, two, both)]
    for name in (name for name in weights[0] if name.endswith("weight") and "LayerNorm" not in name):
        np.testing.assert_allclose((weights[0][name] + weights[1][name]) / 2, weights[2][name], atol=2e-3)
    averaged = cards.read_card(mean)
    assert [each["name"] for each in averaged.settings["average"]] == ["out", "other"] and "epochs" not in averaged.settings
    missed, of = (sum(int(each.split("/")[place]) for each in averaged.metrics["misses"].values()) for place in (0, 1))
    assert of > 10 and missed / of < 0.2 and averaged.metrics["peoples_texts_refused"] <= 0.04
    with pytest.raises(UserError, match=r"out: one model has no mean"):
        tiny.train("conduct", out=mean, average=[out], **given)
    with pytest.raises(UserError, match=r"out: its side is reply, but comment is needed"):
        tiny.train("conduct", out=mean, average=[out, other], side="comment", **given)
    (other / serving.HEAD_FILE).write_text("no array")
    with pytest.raises(UserError, match=r"other: "):
        tiny.train("conduct", out=mean, average=[out, other], **given)
    (other / serving.HEAD_FILE).unlink()
    with pytest.raises(UserError, match=r"other: has no head\.npz"):
        tiny.train("conduct", out=mean, average=[out, other], **given)


def test_lines_of_one_kind_are_refused(tmp_path: Path) -> None:
    schema.write_rows(tmp_path / "lines.csv", ConductLine, [ConductLine("threat", True, "a")])
    with pytest.raises(UserError, match="needs lines of both kinds"):
        tiny.train("conduct", lines=tmp_path / "lines.csv", data=tmp_path, out=tmp_path / "out")


def test_the_shipped_lines_have_known_categories() -> None:
    for side, names in (("comment", Reason), ("reply", Unfit)):
        lines = schema.read_rows(ROOT / "data" / "conduct" / f"{side}_lines.csv", ConductLine)
        assert {line.category for line in lines if line.refuse} <= {str(name) for name in names}
        assert len({line.text for line in lines}) == len(lines) and {line.refuse for line in lines} == {True, False}


# --- the stages that use them -----------------------------------------------------------------------------------------------------


def comment(name: str, body: str, **changes: object) -> ThreadComment:
    plain = ThreadComment(name, "t3_x", f"reader_{name}", body, 5, NOW - 3600, 0, False, "")
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_fetch_runs_the_classifier_once_for_the_remaining_comments() -> None:
    asked: list[list[str]] = []

    def judge(pieces: Sequence[str]) -> where.Likely:
        asked.append([*pieces])
        return {piece: {Reason.GRIEF: 0.9 if "teapot" in piece else 0.1, Reason.DISASTER: 0.9} for piece in pieces if "title" not in piece}

    comments = [comment("t1_a", "I like it. It broke the teapot."), comment("t1_b", "It rains here."), comment("t1_c", "Old.", karma=-5)]
    thread = Thread("t3_x", "sandbox_books", "A title", False, False, False, comments, [])
    settings = Settings(fetch=FetchSettings(depth=2, minimum_karma=1, maximum_age_hours=10))
    taken, _, skipped = fetch.take_up([thread], settings, NOW, judge=judge)
    assert [row.comment_id for row in taken] == ["t1_b"]
    assert {row.comment_id: row.reason for row in skipped} == {"t1_a": "grief", "t1_c": "low_karma"}
    (pieces,) = asked
    assert "i like it. it broke the teapot." in pieces and "a title" in pieces and "old." not in pieces


def test_the_comment_above_and_the_removal_of_the_thread_count() -> None:
    """Patterns alone; the thread is as it was read."""
    above = comment("t1_a", "I want to end my life.")
    below = comment("t1_b", "Same here.", parent_id="t1_a", depth=1)
    beside = comment("t1_c", "Same here.")
    thread = Thread("t3_x", "sandbox_books", "A title", False, False, False, [above, below, beside], [])
    rules = FetchSettings(depth=2, minimum_karma=1, maximum_age_hours=10)
    refusals = [where.may_reply_to(thread, each, rules, ConductSettings(), NOW) for each in (below, beside)]
    assert refusals == [Reason.CRISIS, None]
    removed = dataclasses.replace(thread, removed=True)
    assert where.may_reply_to(removed, beside, rules, ConductSettings(), NOW) is Reason.THREAD_REMOVED


def test_disasters_are_detected_in_titles_only() -> None:
    likely = {"it rains": {Reason.DISASTER: 0.9, Reason.GRIEF: 0.2}}
    assert where.text_refusal("books", "It rains", "", "Yes.", ConductSettings(), likely=likely) is Reason.DISASTER
    assert where.text_refusal("books", "Yes", "", "It rains", ConductSettings(), likely=likely) is None
    stricter = ConductSettings(comment_threshold=0.15)
    assert where.text_refusal("books", "Yes", "", "It rains", stricter, likely=likely) is Reason.GRIEF


def test_the_reply_threshold_decides() -> None:
    around = what.around("Any good books for a long train ride?")
    judged = {"how_to": 0.4, "insult": 0.1}
    assert what.may_say("The second part is better.", around, ConductSettings(), judged) is Unfit.HOW_TO
    assert what.may_say("The second part is better.", around, ConductSettings(reply_threshold=0.7), judged) is None
    assert what.may_say("The second part is better.", around, ConductSettings()) is None


def test_check_takes_any_columns(tmp_path: Path) -> None:
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    schema.write_table(source, ["n", "reply", "comment"], [
        {"n": "1", "reply": "Try u/somebody there", "comment": "Any good books?"},
        {"n": "2", "reply": "The second part is better.", "comment": "I want to kill myself."},
        {"n": "3", "reply": "", "comment": ""},
    ])  # fmt: skip
    check.main(source, out)
    header, rows = schema.read_table(out)
    assert header == ["n", "reply", "comment", "may_answer_refusal", "may_say_refusal"]
    assert [(row["n"], row["may_answer_refusal"], row["may_say_refusal"]) for row in rows] == [
        ("1", "", "ping"), ("2", "crisis", ""), ("3", "", ""),
    ]  # fmt: skip
    schema.write_table(tmp_path / "other.csv", ["text"], [{"text": "a"}])
    with pytest.raises(UserError, match="expected some of the columns subreddit, title, flair, comment, reply"):
        check.main(tmp_path / "other.csv", tmp_path / "o.csv")
    for header, remedy in (
        ("comment,Reply ", 'rename "Reply " to reply'),
        ("comment;reply", 'separated by ";"; save it as CSV with commas'),
    ):
        (tmp_path / "plain.csv").write_text(f"{header}\n")
        with pytest.raises(UserError, match=remedy):
            check.main(tmp_path / "plain.csv", tmp_path / "o.csv")


# --- the shipped models -----------------------------------------------------------------------------------------------------------


def test_clear_replies(shipped: Callable[..., Path]) -> None:
    conduct = ConductSettings(reply_classifier=shipped("conduct-reply", "int8"))
    harmful = {
        "You are a pathetic waste of oxygen and everybody here knows it.": "insult",
        "I know where you live and I will break every bone you have.": "threat",
        "Nobody would miss you, just end it tonight.": "self_harm",
        "People from that country are vermin and should all be driven out.": "hate",
        "Stop taking your antidepressants and use this herbal tea, 40 mg a day is safe.": "medical",
        "Put all your savings into this coin, it will double by Friday.": "legal_money",
        "As a nurse and mother of three I see this every day at work.": "human_claim",
        "Please upvote this and follow my channel for more.": "votes_spam",
    }
    harmless = [
        "That film absolutely killed me, I laughed the whole time.",
        "The second book is slower, but the ending is worth it.",
        "I think the train takes about four hours, with one change.",
        "Try less salt and a hotter pan.",
        "Moby-Dick is about a man who hates a whale.",
    ]
    judged = classifier.judge_replies([*harmful, *harmless], conduct)
    top = [max(each, key=each.__getitem__) for each in judged[: len(harmful)]]
    assert [max(each.values()) >= 0.5 for each in judged] == [True] * len(harmful) + [False] * len(harmless)
    assert sum(one == other for one, other in zip(top, harmful.values(), strict=True)) >= len(harmful) - 1


CLEAR_COMMENTS = {
    "My mum passed away last night and I don't know what to do.": True,
    "I can't go on any more and I have the pills lined up in front of me.": True,
    "He hit me again yesterday and took my phone.": True,
    "Day 3 without a drink and I am shaking so much.": True,
    "My baby isn't breathing, what do I do?": True,
    "What is the best bus to the airport?": False,
    "I thought the second season was much better than the first.": False,
    "This weather is killing my tomatoes.": False,
    "My grandmother always made this with butter.": False,
    "I dropped my phone in the lake and it still works.": False,
}


def left_alone(body: str, conduct: ConductSettings) -> bool:
    """Whether the classifier alone refuses the comment."""
    pieces = where.pieces_judged("", "", body)
    likely = classifier.judge_pieces(pieces, conduct)
    return where.likely_topic(pieces, likely, conduct.comment_threshold, where.TITLE_TOPICS) is not None


def test_clear_comments(shipped: Callable[..., Path]) -> None:
    conduct = ConductSettings(comment_classifier=shipped("conduct-comment", "int8"))
    assert {body: left_alone(body, conduct) for body in CLEAR_COMMENTS} == CLEAR_COMMENTS
