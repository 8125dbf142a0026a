"""Score files: the scores of pairs, written by `score` in its own process and read by `evaluate` and `train weights`.

Reads and writes, in FOLDER (OUT/scores of `evaluate`), for a set of pairs such as upvote_test:

    SET.csv           comment, reply: each distinct pair
    SET.MODEL.csv     comment, reply and one column: realism_score, upvote_score or relevance_score of the ranker in the folder MODEL;
                      cosine under the base encoder MODEL; or log_likelihood and tokens under the generator in the folder MODEL

Pairs have no ids, and a pair that occurs several times is scored once. The manifest of each file has its pairs, model and settings; a
current file is not created again.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bot import cli, config, files, schema
from bot.cli import UserError, with_root
from bot.rankers import scoring
from bot.rankers.scoring import Pairs


class Scorer(Protocol):
    def __call__(self, pairs: Pairs, name: str) -> np.ndarray[Any, Any]:
        """The scores of the pairs, (pairs,). name: of the set of pairs."""
        ...


class NotScored(UserError):
    """A score file is missing or not current."""


@dataclass(frozen=True)
class Scores:
    """Scorers that use the score files in `folder`. Each raises UserError if the model is missing or cannot score the pairs.

    create: False to read only files that are current; for others the scorers raise NotScored.
    """

    folder: Path
    settings: config.Settings
    create: bool = True

    def of_model(self, model: Path) -> Scorer:
        """A scorer for a ranker."""
        rank = self.settings.rank
        variables = {"RANK__BACKEND": rank.backend, "RANK__PRECISION": rank.precision, "RANK__BATCH_SIZE": rank.batch_size}
        return lambda pairs, name: self.read(
            pairs, name, model.absolute().name, scoring.by_model(model, rank), ["--model", str(model.absolute())], variables
        )

    def of_base(self, base: str) -> Scorer:
        """A scorer for an untuned base encoder: the cosine of comment and reply."""
        return lambda pairs, name: self.read(pairs, name, base.replace("/", "--"), scoring.by_base(base), ["--base", base], {})

    def likelihoods(self, pairs: Pairs, name: str) -> np.ndarray[Any, Any]:
        """The mean log-likelihood per token of each reply under the generator, in nats, (pairs,)."""
        return self.read(pairs, name, *self._of_generator())

    def whole_likelihoods(self, pairs: Pairs, name: str) -> np.ndarray[Any, Any]:
        """The log-likelihood of each whole reply and its end, in nats, (pairs,); NaN if the back end cannot count tokens."""
        whole: np.ndarray[Any, Any] = self.columns(pairs, name, *self._of_generator()).prod(axis=1)
        return whole

    def _of_generator(self) -> tuple[str, scoring.Scoring, list[str], dict[str, Any]]:
        generate = self.settings.generate
        variables = {
            "GENERATE__BACKEND": generate.backend, "GENERATE__MODEL": generate.model.absolute(),
            "GENERATE__MAX_PROMPT_TOKENS": generate.max_prompt_tokens,
        }  # fmt: skip
        return generate.model.absolute().name, scoring.by_likelihood(generate), ["--likelihood"], variables

    def read(
        self, pairs: Pairs, name: str, model: str, how: scoring.Scoring, options: list[str], variables: dict[str, Any]
    ) -> np.ndarray[Any, Any]:
        """The scores in the first column of the score file, (pairs,). See `columns`."""
        first: np.ndarray[Any, Any] = self.columns(pairs, name, model, how, options, variables)[:, 0]
        return first

    def columns(
        self, pairs: Pairs, name: str, model: str, how: scoring.Scoring, options: list[str], variables: dict[str, Any]
    ) -> np.ndarray[Any, Any]:
        """Create the score file if it is not current, and read it: (pairs, columns), NaN for empty cells.

        options: for `score`. variables: settings for its environment, without the prefix BOT_.
        """
        distinct = list(dict.fromkeys(pairs))
        source, out = self.folder / f"{name}.csv", self.path(name, model)
        files.check_output(source)
        schema.write_table(source, ["comment", "reply"], ({"comment": comment, "reply": reply} for comment, reply in distinct))
        if not files.is_current(out, scoring.made_from(source, how)):
            if not self.create:
                raise NotScored(f"{out} is missing or not current")
            start(["score", "--in", str(source), "--out", str(out), *options], variables)
        rows = schema.read_table(out, how.columns)[1]
        columns = [schema.numbers(out, rows, column) for column in how.columns]
        row_of = {pair: row for row, pair in enumerate(distinct)}
        return np.array(columns, float).T[[row_of[pair] for pair in pairs]].reshape(len(pairs), len(columns))

    def path(self, name: str, model: str) -> Path:
        """The score file of a set of pairs. model: the name of the model's folder."""
        return self.folder / f"{name}.{model}.csv"


def start(arguments: list[str], variables: dict[str, Any]) -> None:
    """Run a stage in its own process and show its progress and errors. Raises UserError if it fails."""
    environment = with_root(os.environ) | {f"BOT_{name}": str(value) for name, value in variables.items()}
    command = cli.stage_command(*arguments)
    done = subprocess.run(command, env=environment, check=False, preexec_fn=cli.as_part_of_parent)
    if done.returncode:
        raise UserError(f"`python run_bot.py {' '.join(arguments)}` failed, see the error above")
