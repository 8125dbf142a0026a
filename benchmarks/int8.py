"""Perplexity of people's replies in each precision of an exported generator, and the tokens per second that it scores.

    python benchmarks/int8.py data/prepared/lm_val.csv [MODEL]

Reads  a CSV with the columns comment and reply, of which 300 rows are drawn at random; MODEL, a generator (default models/lm).
Prints a table: the perplexity over the tokens of the replies, including the end token, relative to float32, and the speed.
"""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import ctranslate2

from bot import schema
from bot.export import to_ctranslate2
from bot.generators import transformers as reference

ROWS, SEED, PROMPT_TOKENS = 300, 1, 96
PRECISIONS = ("float32", "int8")


def main(path: Path, model: Path) -> None:
    _, table = schema.read_table(path)
    _, tokenizer = reference.load_model(model)
    drawn = schema.sample_rows(table, ROWS, SEED)
    rows = [reference.encode_training_row(tokenizer, row["comment"], row["reply"], PROMPT_TOKENS) for row in drawn]
    tokens = [[str(each) for each in ids] for ids, _ in rows]  # the vocabulary of an export
    print("| export | perplexity | relative | tokens/s |\n|---|---|---|---|")
    exact = 0.0
    for precision in PRECISIONS:
        engine = ctranslate2.Generator(str(to_ctranslate2.export(model, precision)))  # type: ignore[arg-type]
        began = time.perf_counter()
        scored = engine.score_batch(tokens, max_batch_size=8)
        seconds = time.perf_counter() - began
        values = [value for each, (_, start) in zip(scored, rows, strict=True) for value in each.log_probs[start - 1 :]]
        perplexity = math.exp(-sum(values) / len(values))
        exact = exact or perplexity
        print(f"| {precision} | {perplexity:.2f} | {perplexity / exact - 1:+.1%} | {sum(map(len, tokens)) / seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "models/lm"))
