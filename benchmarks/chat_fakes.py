"""Fakes by a generator that no ranker learnt from: the base model in its own chat format, asked for a reply, as most would ask one.

Reads  DATA/lm_test.csv and a chat model in models/base/.
Writes OUT, a CSV of candidates; `prepare realism` puts it among the others, and `evaluate` measures realism against it by itself.

    python benchmarks/chat_fakes.py --data data/prepared --rows 130 --out data/fakes_chat.csv
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bot import schema
from bot.cli import run_command
from bot.schema import Candidate, LmRow
from bot.weights import bases, loading

ASKED = "You are a user of Reddit. Write one short reply to this comment, and nothing else.\n\n{comment}"
TEMPERATURE, TOP_P, MOST_TOKENS = 0.8, 0.9, 60


def main(
    out: Annotated[Path, typer.Option(help="the CSV to write")],
    data: Annotated[Path, typer.Option(help="folder with lm_test.csv")] = Path("data/prepared"),
    base: Annotated[str, typer.Option(help="name of a chat model under models/base")] = "smollm2-135m-instruct",
    rows: Annotated[int, typer.Option(min=1, help="comments, drawn by chance")] = 130,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """One candidate for each comment."""
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = loading.load(bases.base_path(base), AutoModelForCausalLM)
    comments = {row.comment_id: row.comment for row in schema.read_rows(data / "lm_test.csv", LmRow)}
    drawn = random.Random(seed).sample(sorted(comments), min(rows, len(comments)))
    torch.manual_seed(seed)
    candidates = []
    for comment_id in drawn:
        asked = [{"role": "user", "content": ASKED.format(comment=comments[comment_id][:1000])}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            whole = model.generate(**prompt, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, max_new_tokens=MOST_TOKENS)
        reply = tokenizer.decode(whole[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        candidates.append(Candidate(comment_id, f"{comment_id}-0", seed, comments[comment_id], reply, f"chat:{base}", None))
    written = schema.write_rows(out, Candidate, candidates)
    print(f"{written:,} candidates in {out}")


if __name__ == "__main__":
    run_command(main, "chat_fakes.py")
