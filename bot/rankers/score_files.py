"""Score files: what models say of pairs, made by `score` in a process of its own, once, and read by `evaluate` and `train weights`.

Reads and writes, in FOLDER (OUT/scores of `evaluate`), for a set of pairs such as upvote_test:

    SET.csv           comment, reply: each different pair once
    SET.MODEL.csv     comment, reply and one column: realism_score, upvote_score or relevance_score of the ranker in the folder MODEL;
                      cosine under the base encoder MODEL; or log_likelihood under the generator in the folder MODEL

Pairs have no ids: the same reply is scored once, wherever it stands. The manifest beside each file says which pairs, which model and
which settings it was made from; a file that is current is not made again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bot import config, files, schema
from bot.cli import UserError, with_root
from bot.rankers import scoring
from bot.rankers.scoring import Pairs


class Scorer(Protocol):
    def __call__(self, pairs: Pairs, name: str) -> np.ndarray[Any, Any]:
        """What a model says of the pairs, (pairs,). name: of the set of pairs."""
        ...


@dataclass(frozen=True)
class Scores:
    """Scorers over the files in `folder`. Each raises UserError where the model isn't there, or can't score the pairs."""

    folder: Path
    settings: config.Settings

    def of_model(self, model: Path) -> Scorer:
        """By a ranker."""
        rank = self.settings.rank
        variables = {"RANK__BACKEND": rank.backend, "RANK__PRECISION": rank.precision, "RANK__BATCH_SIZE": rank.batch_size}
        return lambda pairs, name: self.read(
            pairs, name, model.absolute().name, scoring.by_model(model, rank), ["--model", str(model.absolute())], variables
        )

    def of_base(self, base: str) -> Scorer:
        """By a base encoder as it was pulled: the cosine of comment and reply."""
        return lambda pairs, name: self.read(pairs, name, base.replace("/", "--"), scoring.by_base(base), ["--base", base], {})

    def likelihoods(self, pairs: Pairs, name: str) -> np.ndarray[Any, Any]:
        """By the generator: the mean log-likelihood of the reply's tokens, in nats."""
        generate = self.settings.generate
        variables = {
            "GENERATE__BACKEND": generate.backend, "GENERATE__MODEL": generate.model.absolute(),
            "GENERATE__MAX_PROMPT_TOKENS": generate.max_prompt_tokens,
        }  # fmt: skip
        return self.read(pairs, name, generate.model.absolute().name, scoring.by_likelihood(generate), ["--likelihood"], variables)

    def read(
        self, pairs: Pairs, name: str, model: str, how: scoring.Scoring, options: list[str], variables: dict[str, Any]
    ) -> np.ndarray[Any, Any]:
        """options: of `score`. variables: settings, for its environment, without BOT_."""
        different = list(dict.fromkeys(pairs))
        source, out = self.folder / f"{name}.csv", self.folder / f"{name}.{model}.csv"
        files.check_output(source)
        schema.write_table(source, ["comment", "reply"], ({"comment": comment, "reply": reply} for comment, reply in different))
        if not files.is_current(out, scoring.made_from(source, how)):
            start(["score", "--in", str(source), "--out", str(out), *options], variables)
        (column,) = how.columns
        scores = {pair: float(row[column]) for pair, row in zip(different, schema.read_table(out)[1], strict=True)}
        return np.array([scores[pair] for pair in pairs], float)


def start(arguments: list[str], variables: dict[str, Any]) -> None:
    """Run a stage as a process of its own; its progress and its errors are shown. Raises UserError where it fails."""
    environment = with_root(os.environ) | {f"BOT_{name}": str(value) for name, value in variables.items()}
    done = subprocess.run([sys.executable, "-m", "bot", *arguments], env=environment, check=False)
    if done.returncode:
        raise UserError(f"`python run_bot.py {' '.join(arguments)}` failed, the line above says why")
