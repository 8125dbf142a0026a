"""Generators: one module per back end, each with `load(path, precision) -> Generator`. To add one, add a module and a line in BACK_ENDS.

A back end is imported only by the worker that uses it, so TensorFlow and PyTorch never share a process.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bot.cli import UserError, WrongSettings
from bot.config import GenerateSettings, Precision
from bot.schema import Candidate
from bot.weights import cards


class BackEnd(NamedTuple):
    module: str  # has `load(path, precision) -> Generator`
    exported: bool = False  # runs a serving folder written by `models export`, see weights/serving.py
    asks_server: bool = False  # a server computes, so more machines do not speed it up
    reads_places: bool = False  # `sample` and `stream` take `places`, see with_places
    likelihoods: str = ""  # module whose generators have `log_likelihoods` and `token_counts` for the same model folders; empty: none


# The first entry is the default.
BACK_ENDS = {
    "ctranslate2": BackEnd("bot.generators.ctranslate2", exported=True, likelihoods="bot.generators.transformers"),
    "transformers": BackEnd("bot.generators.transformers", likelihoods="bot.generators.transformers"),
    "gpt-2-simple": BackEnd("bot.generators.gpt_2_simple"),
    "keras-seq2seq": BackEnd("bot.generators.keras_seq2seq", likelihoods="bot.generators.keras_seq2seq"),
    "keras-transformer": BackEnd("bot.generators.keras_transformer", likelihoods="bot.generators.keras_transformer"),
    "openai-server": BackEnd("bot.generators.openai_server", asks_server=True, reads_places=True),
}


class Place(NamedTuple):
    """Where a comment is. above: texts of the comments that it answers, oldest first. Any of them may be empty."""

    subreddit: str = ""
    title: str = ""
    above: tuple[str, ...] = ()


# Reasons of Failed that may pass: the same command asks for these comments again.
PASSING = frozenset({"server_error", "timed_out", "connection_lost", "bad_answer"})


class Failed(list[Candidate]):
    """In the place of a comment's candidates: there are none. reason: a name; detail: one line for people."""

    def __init__(self, comment_id: str, reason: str, detail: str):
        super().__init__()
        self.comment_id, self.reason, self.detail = comment_id, reason, detail


class Generator(Protocol):
    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """Yield a list of `settings.num_candidates` candidates for each (comment_id, comment), in any order; Failed for a comment that
        fails although others do not.

        The same comments, settings and seed give the same text on the same machine with the same versions. The text for a comment may
        depend on the other comments. The candidate ids are `comment_id-0`, `-1`, …. The `seed` of a candidate is that of its random stream,
        which candidates may share.
        """
        ...

    def stream(self, comment_id: str, comment: str, settings: GenerateSettings, seed: int) -> Iterator[Candidate]:
        """Yield the candidates that `sample` gives for this one comment, each as soon as it is written, in any order."""
        ...


def with_places(name: str, places: Mapping[str, Place]) -> dict[str, Any]:
    """Further arguments for `sample` and `stream` of a back end: `places`, by comment_id, if it reads them."""
    return {"places": places} if back_end(name).reads_places else {}


def stream_seed(seed: int, *parts: object) -> int:
    """The seed of a random stream, in [0, 2**31), from the run's seed and the parts that identify the stream (a worker, a comment, …)."""
    digest = hashlib.sha256("\n".join(map(str, (seed, *parts))).encode("utf-8", "replace")).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def truncate(prompt: list[int], separator: list[int], max_tokens: int) -> list[int]:
    """Truncate the comment in a prompt longer than `max_tokens`, but keep the separator.

    >>> truncate([1, 2, 3, 9], [9], 3)
    [1, 2, 9]
    """
    return prompt if len(prompt) <= max_tokens else prompt[: max_tokens - len(separator)] + separator


def prompt_room(settings: GenerateSettings, context: int, minimum: int) -> int:
    """The maximum number of prompt tokens for which the prompt and `max_new_tokens` fit into the model's context.

    minimum: number of tokens of the shortest prompt. Raises UserError if it does not fit, or for beam search, which the back ends that
    call this do not have.

    >>> prompt_room(GenerateSettings(max_prompt_tokens=96, max_new_tokens=60), context=128, minimum=5)
    68
    """
    if settings.beam_width > 1:
        raise UserError("generate.beam_width: not supported by this back end; set it to 1")
    maximum = min(settings.max_prompt_tokens, context - settings.max_new_tokens)
    if maximum < minimum:
        raise UserError(
            f"generate.max_prompt_tokens {settings.max_prompt_tokens} and max_new_tokens {settings.max_new_tokens} leave {maximum} of"
            f" {context} tokens for a prompt, but at least {minimum} are needed; change them"
        )
    return maximum


def back_end(name: str) -> BackEnd:
    """The entry for generate.backend. name: empty for the default. Raises WrongSettings if it is unknown."""
    if name and name not in BACK_ENDS:
        raise WrongSettings(f"generate.backend is unknown; choose one of {', '.join(BACK_ENDS)}")
    return BACK_ENDS[name or next(iter(BACK_ENDS))]


def load(name: str, path: Path, precision: Precision = "int8") -> Generator:
    """Load the generator in `path`. precision: of the export, for back ends that use one.

    Raises UserError if the back end is unknown, or there is no model or one of another kind.
    """
    cards.check_kind(path, "generate.model", "lm")
    generator: Generator = importlib.import_module(back_end(name).module).load(path, precision)
    return generator


def likelihoods(name: str) -> Callable[[], Any]:
    """A function that imports the module with the back end's `log_likelihoods`. Raises UserError if the back end has none."""
    module = back_end(name).likelihoods
    if not module:
        raise UserError(f"generate.backend {name} cannot compute likelihoods of given replies; set another back end")
    return lambda: importlib.import_module(module)
