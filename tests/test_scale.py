"""The sketch in docs/scale.md, run without Ray: its classes get the same batches as from Ray Data."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bot import config, schema
from bot.cli import ROOT
from bot.config import GenerateSettings, RankSettings, RankWeights
from bot.online import generate
from bot.schema import Candidate
from tests import tiny


class Dataset:
    """The part of ray.data.Dataset that the sketch uses, for rows in memory."""

    def __init__(self, rows: list[dict[str, Any]]):
        self.rows = rows

    def map_batches(self, worker: type, fn_constructor_args: tuple[Any, ...], batch_size: int, **_: Any) -> Dataset:
        instance, made = worker(*fn_constructor_args), []
        for start in range(0, len(self.rows), min(batch_size, 2)):  # small, so that there are several batches
            part = self.rows[start : start + 2]
            columns = instance({name: np.array([row[name] for row in part], dtype=object) for name in part[0]})
            made += [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return Dataset(made)

    def write_parquet(self, _: str) -> None:
        WRITTEN.extend(self.rows)


WRITTEN: list[dict[str, Any]] = []
COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "[deleted]"), ("t1_c", "NA"), ("t1_d", "My kettle takes ten minutes to boil.")]


def test_the_sketch_gives_the_same_candidates_as_generate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm, ranker = tiny.language_model(tmp_path / "lm"), tiny.encoder(tmp_path / "ranker")
    stand_in = types.ModuleType("ray")
    rows = [{"comment_id": comment_id, "comment": comment} for comment_id, comment in COMMENTS]
    stand_in.data = types.SimpleNamespace(read_parquet=lambda *_, **__: Dataset(rows))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    match = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "scale.md").read_text(encoding="utf-8"), re.DOTALL)
    assert match
    sketch: dict[str, Any] = {"__name__": "sketch"}
    exec(match[1], sketch)
    settings = config.Settings(
        generate=GenerateSettings(backend="transformers", model=lm, num_candidates=2, max_new_tokens=6),
        rank=RankSettings(backend="transformers", realism=ranker, upvote=None, weights=RankWeights(realism=1)),
    )
    sketch["fakes"]("in", "out", settings, 7, 2)
    schema.write_table(tmp_path / "in.csv", ["comment_id", "comment"], rows)
    generate.generate([tmp_path / "in.csv"], tmp_path / "out.csv", settings.generate, 7)
    expected = {row.candidate_id: row.reply for row in schema.read_rows(tmp_path / "out.csv", Candidate)}
    assert {row["candidate_id"]: row["reply"] for row in WRITTEN} == expected and len(expected) == 6
    assert all(0 <= row["realism_score"] <= 1 and row["upvote_score"] is None for row in WRITTEN)
