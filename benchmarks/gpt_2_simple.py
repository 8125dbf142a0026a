"""Sampling beside gpt_2_simple.generate: the same GPT-2 of 124M (random weights), comments and candidates; tokens a second of each.

Writes FOLDER/124M (half a gigabyte, kept for the next run) and prints a table, after ten minutes on two cores. Each side is a process of
its own and is timed warm: the checkpoint is loaded and one comment has been answered.

    python benchmarks/gpt_2_simple.py --folder /tmp/bench

gpt_2_simple.generate is called once a comment with nsamples=10, batch_size=10, as its users do; with top_k (what it does fastest) and with
top_p (for which it sorts the vocabulary at each step and forgets top_k). A token counts up to its candidate's end: where candidates end
after 10 to 60 tokens, gpt_2_simple writes on to 60 and the rest is thrown away.
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
sys.path = [each for each in sys.path if Path(each).resolve() != ROOT / "benchmarks"]  # where this file would hide the package of its name
COMMENTS = [
    ("Which book made you laugh out loud on the train? " * repeat + "I need something light for a long journey.")[: 60 + 25 * repeat]
    for repeat in range(1, 9)
]
CANDIDATES, TOKENS, SEED = 10, 60, 1


def make_checkpoint(folder: Path) -> None:
    from tests import tiny

    tiny.gpt2_checkpoint(folder, n_embd=768, n_layer=12, n_head=12, n_ctx=1024, n_vocab=50257)


def length_of(seed: int) -> int:
    """Tokens of the candidate with this seed where candidates end early.

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


def our_side(folder: Path, batch_size: int, ending: bool) -> Callable[[list[str]], int]:
    import numpy as np
    import tensorflow as tf

    from bot.config import GenerateSettings
    from bot.generators import gpt_2_simple as ours

    draw = ours.draw

    def draw_and_end(logits: Any, uniform: Any, *settings: Any) -> Any:
        """The last steps' random numbers are replaced by 2: the end token is drawn there."""
        drawn, likelihood = draw(logits, uniform, *settings)
        return tf.where(uniform > 1, 0, drawn), likelihood  # 0: the tiny encoder's end token

    generator_of = np.random.default_rng

    class Stream:
        def __init__(self, seed: int):
            self.seed = seed

        def random(self, count: int, kind: Any) -> Any:
            numbers = generator_of(self.seed).random(count, kind)
            numbers[length_of(self.seed) - 1 :] = 2
            return numbers

    if ending:
        ours.draw = draw_and_end  # type: ignore[assignment]
        np.random.default_rng = Stream  # type: ignore[assignment, misc]
    generator = ours.load(folder)
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
    """Prints seconds and the number of tokens as JSON."""
    name, _, rest = side.partition(":")
    answer = gpt_2_simple_side(folder, float(rest)) if name == "theirs" else our_side(folder, int(rest), name == "ours-ending")
    answer(COMMENTS[:1])
    began = time.monotonic()
    tokens = answer(COMMENTS)
    print(json.dumps([time.monotonic() - began, tokens]))


def run(command: list[str]) -> str:
    """The last line that a process of its own prints."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return ran.stdout.strip().splitlines()[-1]


def main(
    folder: Annotated[Path, typer.Option(help="for the checkpoint: half a gigabyte")] = Path("data/bench"),
    side: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Time sampling by gpt_2_simple and by the bot's back end."""
    checkpoint = folder.resolve() / "124M"
    if side == "make":
        make_checkpoint(checkpoint)
        print("made")
        return
    if side is not None:
        time_side(side, checkpoint)
        return
    here = [sys.executable, __file__, "--folder", str(folder), "--side"]
    if not (checkpoint / "checkpoint").exists():  # the Saver writes it last
        run([*here, "make"])
    table = Table("", "ends", "seconds", "tokens", "tokens/s", "ratio to top_k", "ratio to top_p", title=f"{len(COMMENTS)} comments, 124M")
    theirs = {name: json.loads(run([*here, f"theirs:{top_p}"]))[0] for name, top_p in (("top_k", 0.0), ("top_p", 0.9))}
    for ends, side in (("none early", "ours"), ("after 10 to 60", "ours-ending")):
        for batch_size in (10, 40):
            seconds, tokens = json.loads(run([*here, f"{side}:{batch_size}"]))
            ratios = [f"{each / seconds:.2f}" for each in theirs.values()]
            table.add_row(f"ours, batch_size {batch_size}", ends, f"{seconds:.1f}", f"{tokens:,}", f"{tokens / seconds:,.0f}", *ratios)
        for name, each in theirs.items():
            row = (f"gpt_2_simple.generate, {name}", ends, f"{each:.1f}", f"{tokens:,}", f"{tokens / each:,.0f}", "", "")
            table.add_row(*row, end_section=name == "top_p")
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
