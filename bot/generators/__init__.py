"""Generators: one file a back end, each with `load(path, precision) -> Generator`. A new one is a new file here and a line in BACK_ENDS.

A back end is imported by the worker that was told to use it and by nothing else, so TensorFlow and PyTorch never share a process.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.schema import Candidate


class BackEnd(NamedTuple):
    module: str  # has `load(path, precision) -> Generator`
    exported: bool = False  # runs the serving folder that `models export` makes of a model, see weights/serving.py
    likelihoods: str = ""  # module whose generators have `log_likelihoods`, of the same model folders; empty: none


# The first is the default. A new one is a new file here and a line in this table.
BACK_ENDS = {
    "ctranslate2": BackEnd("bot.generators.ctranslate2", exported=True, likelihoods="bot.generators.transformers"),
    "transformers": BackEnd("bot.generators.transformers", likelihoods="bot.generators.transformers"),
    "gpt-2-simple": BackEnd("bot.generators.gpt_2_simple"),
}


class Generator(Protocol):
    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """For each (comment_id, comment) `settings.num_candidates` candidates, yielded as whole comments are done, in any order.

        The same comments, settings and seed give the same text on the same machine and versions; other comments beside one may change its
        text. A comment's ids are `comment_id-0`, `-1`, …; a candidate's `seed` is that of the random stream it was drawn from, which may be
        its own or one that many share.
        """
        ...


def stream_seed(seed: int, *parts: object) -> int:
    """Seed of a random stream, in [0, 2**31): from the run's seed and what tells the stream from others (a worker; a comment, a number)."""
    digest = hashlib.sha256("\n".join(map(str, (seed, *parts))).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def shortened(prompt: list[int], separator: list[int], most_tokens: int) -> list[int]:
    """Of a prompt longer than `most_tokens` the comment's end is cut, never the separator.

    >>> shortened([1, 2, 3, 9], [9], 3)
    [1, 2, 9]
    """
    return prompt if len(prompt) <= most_tokens else prompt[: most_tokens - len(separator)] + separator


def back_end(name: str) -> BackEnd:
    """name: generate.backend; empty for the default. Raises UserError for an unknown one."""
    if name and name not in BACK_ENDS:
        raise UserError(f"generate.backend is unknown; one of {', '.join(BACK_ENDS)}")
    return BACK_ENDS[name or next(iter(BACK_ENDS))]


def load(name: str, path: Path, precision: Precision = "int8") -> Generator:
    """The generator in `path`. precision: of the export, for a back end that runs one.

    Raises UserError for an unknown back end or a model that isn't there.
    """
    generator: Generator = importlib.import_module(back_end(name).module).load(path, precision)
    return generator


def likelihoods(name: str) -> Callable[[], Any]:
    """Gives the module of that back end's `log_likelihoods`, imported when it is called. Raises UserError where there is none."""
    module = back_end(name).likelihoods
    if not module:
        raise UserError(f"generate.backend {name} has no likelihoods of given replies")
    return lambda: importlib.import_module(module)
