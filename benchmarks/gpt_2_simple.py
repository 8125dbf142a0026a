"""Sampling speed of the back end gpt-2-simple, compared with gpt_2_simple.generate: same GPT-2 124M (random weights), same comments.

Writes FOLDER/124M (half a gigabyte, kept for the next run) and prints a table, after about ten minutes on two cores. Each side runs in a
separate process and is timed warm: the checkpoint is loaded and one comment has been answered.

    python benchmarks/gpt_2_simple.py --folder /tmp/bench

gpt_2_simple.generate is called once per comment with nsamples=10, batch_size=10, as its users do; with top_k, its fastest setting, and
with top_p, for which it sorts the vocabulary at each step and ignores top_k. Only tokens up to the end of a candidate count. When
candidates end after 10 to 60 tokens, gpt_2_simple still generates 60 and discards the rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
sys.path = [each for each in sys.path if Path(each).resolve() != ROOT / "benchmarks"]  # this file would shadow the package gpt_2_simple
COMMENTS = [
    ("Which book made you laugh out loud on the train? " * repeat + "I need something light for a long journey.")[: 60 + 25 * repeat]
    for repeat in range(1, 9)
]
CANDIDATES, TOKENS, SEED = 10, 60, 1


def make_checkpoint(folder: Path) -> None:
    from tests import tiny

    tiny.gpt2_checkpoint(folder, n_embd=768, n_layer=12, n_head=12, n_ctx=1024, n_vocab=50257)


def length_of(seed: int) -> int:
    """Length in tokens of the candidate with this seed, if candidates end early.

    >>> length_of(50), length_of(51)
    (60, 10)
    """
    return 10 + seed % 51


def gpt_2_simple_side(folder: Path, top_p: float) -> Callable[[list[str]], int]:
    import gpt_2_simple

    from bot import text

    session = gpt_2_simple.start_tf_sess()
    gpt_2_simple.load_gpt2(session, model_name=folder.name, model_dir=str(folder.parent))

    def answer(comments: list[str]) -> int:
        for comment in comments:
            gpt_2_simple.generate(
                session,
                model_name=folder.name,
                model_dir=str(folder.parent),
                prefix="<|startoftext|>" + text.format_prompt(comment),
                truncate="<|endoftext|>",
                nsamples=CANDIDATES,
                batch_size=CANDIDATES,
                length=TOKENS,
                temperature=0.8,
                top_k=200,
                top_p=top_p,
                return_as_list=True,
            )
        return len(comments) * CANDIDATES * TOKENS

    return answer


def bot_side(folder: Path, batch_size: int, end_early: bool) -> Callable[[list[str]], int]:
    import numpy as np
    import tensorflow as tf

    from bot.config import GenerateSettings
    from bot.generators import gpt_2_simple as back_end

    draw = back_end.draw

    def draw_and_end(logits: Any, uniform: Any, *settings: Any) -> Any:
        """Draw the end token where the random number is 2 (see Stream)."""
        drawn, likelihood = draw(logits, uniform, *settings)
        return tf.where(uniform > 1, 0, drawn), likelihood  # 0: the end token of the tiny encoder

    default_rng = np.random.default_rng

    class Stream:
        """Random numbers that are 2 from the step on at which the candidate is to end."""

        def __init__(self, seed: int):
            self.seed = seed

        def random(self, count: int, kind: Any) -> Any:
            numbers = default_rng(self.seed).random(count, kind)
            numbers[length_of(self.seed) - 1 :] = 2
            return numbers

    if end_early:
        back_end.draw = draw_and_end  # type: ignore[assignment]
        np.random.default_rng = Stream  # type: ignore[assignment, misc]
    generator = back_end.load(folder)
    settings = GenerateSettings(
        model=folder, num_candidates=CANDIDATES, max_new_tokens=TOKENS, max_prompt_tokens=900, batch_size=batch_size, top_k=200, top_p=0.9
    )

    draw_batch, counts = generator.draw, []

    def count(*arguments: Any) -> Any:
        tokens, likelihoods = draw_batch(*arguments)
        counts.append(int((tokens >= 0).sum()))
        return tokens, likelihoods

    generator.draw = count  # type: ignore[method-assign]

    def answer(comments: list[str]) -> int:
        counts.clear()
        rows = list(generator.sample([(str(n), comment) for n, comment in enumerate(comments)], settings, SEED))
        assert [len(row) for row in rows] == [CANDIDATES] * len(comments)
        return sum(counts)

    return answer


def time_side(side: str, folder: Path) -> None:
    """Print seconds and number of tokens as JSON. side: NAME:TOP_P for gpt_2_simple, NAME:BATCH_SIZE for the bot."""
    name, _, value = side.partition(":")
    answer = gpt_2_simple_side(folder, float(value)) if name == "generate" else bot_side(folder, int(value), name == "bot-end-early")
    answer(COMMENTS[:1])
    start = time.monotonic()
    tokens = answer(COMMENTS)
    print(json.dumps([time.monotonic() - start, tokens]))


def run(command: list[str]) -> str:
    """Run a command and return the last line of its output."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return done.stdout.strip().splitlines()[-1]


def main(
    folder: Annotated[Path, typer.Option(help="folder for the checkpoint: half a gigabyte")] = Path("data/bench"),
    side: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time sampling with gpt_2_simple.generate and with the bot's back end."""
    checkpoint = folder.resolve() / "124M"
    if side == "make":
        make_checkpoint(checkpoint)
        print("made")
        return
    if side is not None:
        time_side(side, checkpoint)
        return
    command = [sys.executable, __file__, "--folder", str(folder), "--side"]
    if not (checkpoint / "checkpoint").exists():  # written last
        run([*command, "make"])
    columns = ("", "tokens per candidate", "seconds", "tokens", "tokens/s", "ratio to top_k", "ratio to top_p")
    table = Table(*columns, title=f"{len(COMMENTS)} comments, 124M")
    generate = {name: json.loads(run([*command, f"generate:{top_p}"]))[0] for name, top_p in (("top_k", 0.0), ("top_p", 0.9))}
    for length, side in (("60", "bot"), ("10 to 60", "bot-end-early")):
        for batch_size in (10, 40):
            seconds, tokens = json.loads(run([*command, f"{side}:{batch_size}"]))
            ratios = [f"{each / seconds:.2f}" for each in generate.values()]
            table.add_row(f"bot, batch_size {batch_size}", length, f"{seconds:.1f}", f"{tokens:,}", f"{tokens / seconds:,.0f}", *ratios)
        for name, each in generate.items():
            row = (f"gpt_2_simple.generate, {name}", length, f"{each:.1f}", f"{tokens:,}", f"{tokens / each:,.0f}", "", "")
            table.add_row(*row, end_section=name == "top_p")
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
