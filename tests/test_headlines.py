"""benchmarks/headlines.py with invented headlines and vectors."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zstandard

from benchmarks import headlines
from bot.cli import UserError

SUBJECTS, SERIOUS = ("mayor", "council", "senate", "bank"), ("raises", "delays", "signs", "cuts")
SILLY, OBJECTS = ("heroically", "bravely", "smugly", "sighing"), ("budget", "bridge", "tax", "rail", "wages")
ROWS = [(f"{subject.title()} {verb} {silly} the {thing}".replace("  ", " "), int(bool(silly)))
        for subject in SUBJECTS for verb in SERIOUS for thing in OBJECTS for silly in ("", SILLY[len(thing) % 4])]  # fmt: skip

SMALL = {"units": 12, "dense": 12, "dropout": 0.1, "epochs": 20, "patience": 20, "batch_tokens": 200, "learning_rate": 3e-2}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("headlines") / "headlines.jsonl.zst"
    lines = "".join(json.dumps({"headline": headline, "is_sarcastic": label}) + "\n" for headline, label in ROWS)
    path.write_bytes(zstandard.compress(lines.encode()))
    return path


@pytest.fixture(scope="module")
def glove(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    words = ["the", *SUBJECTS, *SERIOUS, *SILLY, *OBJECTS]
    path = tmp_path_factory.mktemp("glove") / "glove.tiny.8d.txt"
    path.write_text("".join(f"{word} {' '.join(f'{each:.4f}' for each in rng.normal(size=8))}\n" for word in words))
    return path


def test_each_headline_is_in_one_part_whatever_its_case(source: Path, tmp_path: Path) -> None:
    split = headlines.read(source)
    assert sorted(pair for part in split.values() for pair in zip(*part, strict=True)) == sorted(ROWS)
    assert 0.7 < len(split["train"][0]) / len(ROWS) < 0.9
    shouted = tmp_path / "shouted.jsonl"
    shouted.write_text("".join(json.dumps({"headline": text.upper(), "is_sarcastic": label}) + "\n" for text, label in ROWS))
    assert {part: [text.upper() for text in texts] for part, (texts, _) in split.items()} == {
        part: texts for part, (texts, _) in headlines.read(shouted).items()
    }


@pytest.mark.parametrize("content", ['{"headline": "x"}', "[1]", "{", '{"headline": "x", "is_sarcastic": "maybe"}', b"\xff\n"])
def test_a_file_of_another_kind_is_one_line(content: str | bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=r"other\.jsonl: not JSON lines with headline and is_sarcastic"):
        headlines.read(path)


def test_the_words_of_the_chapter() -> None:
    assert headlines.chapter_words("He isn't here. Area man/woman: 'it's a WELL-known,old story'") == [
        "isnt", "area", "man", "woman", "wellknown", "old", "story",
    ]  # fmt: skip


def trained(source: Path, glove: Path, folder: Path) -> dict[str, headlines.Result]:
    """Three of the models. In a process of its own: Keras' fit fails after the graphs that other test modules leave behind."""
    split = headlines.read(source)
    return {
        "tfidf": headlines.tfidf(split),
        "chapter": headlines.chapter(split, folder / "checkpoint.chapter.npz", str(glove), 50, 1e-2, 10),
        "words": headlines.network(split, folder / "checkpoint.words.npz", str(glove), **SMALL),
    }


def test_every_kind_of_model_learns_and_is_measured(source: Path, glove: Path, tmp_path: Path) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = pool.submit(trained, source, glove, tmp_path).result()
    split = headlines.read(source)
    labels = split["test"][1]
    for name, result in results.items():
        right = np.mean((np.array(result.probabilities) >= 0.5) == labels)
        assert right >= 0.8, name  # half of them are sarcastic
        assert len(result.sentences) == 4 and result.parameters > 0
    curves = results["chapter"].curves or {}
    assert {*curves} == {"accuracy", "loss", "val_accuracy", "val_loss"} and len(curves["val_loss"]) == 10
    assert curves["loss"][-1] < curves["loss"][0]
    assert results["words"].vocabulary == 18  # «the», four subjects, four verbs, four adverbs, five things
    assert all((tmp_path / f"coverage.{name}.png").exists() for name in ("chapter", "words"))
    headlines.save_curves(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    shown = headlines.table(split, results).splitlines()
    assert len(shown) == 5 and shown[2].startswith("| TF-IDF (words, pairs) + logistic regression | 1.000 [")


def test_results_are_kept_and_not_mixed(source: Path, glove: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    headlines.main(source, tmp_path / "out", ["tfidf"], str(glove))
    made = (tmp_path / "out" / "tfidf.json").read_text()
    headlines.main(source, tmp_path / "out", ["tfidf"], "other.txt")  # it has no vectors
    assert (tmp_path / "out" / "tfidf.json").read_text() == made and "| 1.000 [" in capsys.readouterr().out
    kept = headlines.Result([0.0] * 9, [0.0] * 4, vocabulary=3, vectors="other.txt")
    (tmp_path / "out" / "chapter.json").write_text(json.dumps(vars(kept)))
    with pytest.raises(UserError, match=r"chapter\.json: made with other\.txt; give another --out for"):
        headlines.main(source, tmp_path / "out", ["chapter"], str(glove))
    with pytest.raises(UserError, match=r"--only best: no such model; choose from tfidf, "):
        headlines.main(source, tmp_path / "out", ["best"], str(glove))
