"""bot.corpus.copies: near-copies of other texts and of training replies."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import schema
from bot.cli import ROOT, UserError
from bot.corpus import copies
from bot.schema import LmRow
from bot.train import sketches

STORY = "my first job was in a bakery and I got up at three every day but I loved it"
OTHER = "nobody told me that the train leaves from another platform when it snows"
WORDS = st.text("abcdefgh", min_size=2, max_size=6)


def test_sketches_are_small_and_reproducible(tmp_path: Path) -> None:
    assert copies.write(tmp_path, [STORY, "too short to tell", OTHER]) == 2
    rows = copies.read(tmp_path)
    assert rows is not None and rows.shape == (2, 64) and rows.dtype == np.uint8
    assert sorted(rows.tolist()) == sorted(copies.sketch([STORY.upper() + "!", OTHER]).tolist())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["replies.npy"]
    assert STORY.encode()[:12] not in (tmp_path / "replies.npy").read_bytes()


@pytest.mark.parametrize(
    ("reply", "copied"),
    [
        (STORY, True),
        (STORY.replace("bakery", "brewery") + ", really", True),
        ("well, " + STORY, True),
        ("my first job was in a bank and I got up at noon every day", False),
        (OTHER, False),
        ("I loved it", False),
    ],
)
def test_near_copies_of_training_replies(reply: str, copied: bool) -> None:
    assert copies.is_sketched(reply, copies.sketch([OTHER[:30], STORY])) is copied


@given(st.lists(WORDS, min_size=12, max_size=40, unique=True), st.lists(WORDS, min_size=12, max_size=40, unique=True))
def test_copies_are_detected_and_other_texts_are_not(words: list[str], others: list[str]) -> None:
    rows = copies.sketch([" ".join(words)])
    assert copies.is_sketched(" ".join(words[1:]), rows)
    if not set(pairwise(words)) & set(pairwise(others)):
        assert not copies.is_sketched(" ".join(others), rows)


def test_sketches_of_16_bytes_detect_copies(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    learnt = [" ".join(f"w{n}" for n in rng.integers(0, 300, 20)) for _ in range(400)]
    assert copies.write(tmp_path, learnt, 16) == 400
    rows = copies.read(tmp_path)
    assert rows is not None and rows.shape == (400, 16)
    changed = [" ".join(["other" if n == 9 else word for n, word in enumerate(reply.split())]) for reply in learnt]
    assert np.mean([copies.is_sketched(reply, rows) for reply in changed]) > 0.98
    assert not any(copies.is_sketched(" ".join(reply.split()[::-1]), rows) for reply in learnt)


def test_the_shipped_generator_has_sketches() -> None:
    rows = copies.read(ROOT / "models" / "lm")
    assert rows is not None and rows.shape[1] == 16 and len(rows) > 24_000 * 0.5
    assert (ROOT / "models" / "lm" / copies.FILE).stat().st_size < 2_000_000


def test_without_sketches(tmp_path: Path) -> None:
    assert copies.read(tmp_path) is None
    assert copies.write(tmp_path, []) == 0
    rows = copies.read(tmp_path)
    assert rows is not None and not copies.is_sketched(STORY, rows)


def test_an_invalid_sketch_file_is_an_error(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"not numpy at all"):
        (tmp_path / "replies.npy").write_bytes(content)
        with pytest.raises(UserError, match=r"replies\.npy: not readable"):
            copies.read(tmp_path)
    np.save(tmp_path / "replies.npy", np.zeros((2, 3)))
    with pytest.raises(UserError, match="not sketches of 16 to 64 bytes"):
        copies.read(tmp_path)
    np.save(tmp_path / "replies.npy", np.array([{"a": 1}]), allow_pickle=True)  # unpickling could run arbitrary code
    with pytest.raises(UserError, match="not readable"):
        copies.read(tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lm").mkdir()
    rows = [LmRow("t3_a", "t1_a", f"t1_{n}", "books", "why", reply) for n, reply in enumerate((STORY, "short", OTHER))]
    schema.write_rows(tmp_path / "lm_train.csv", LmRow, rows)
    sketches.main(tmp_path, tmp_path / "lm")
    assert "2 replies sketched" in capsys.readouterr().out
    with pytest.raises(UserError, match="no such folder"):
        sketches.main(tmp_path, tmp_path / "nowhere")


def test_short_texts() -> None:
    assert copies.is_copy("👍", [copies.plain("👍")], 0.95) and not copies.is_copy("👍", ["", copies.plain("👎")], 0.95)
    assert not copies.is_copy(copies.plain("my first job"), [copies.plain(STORY)], 0.95)
