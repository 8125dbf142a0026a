"""Generated replies from a generator that no ranker was trained on: a chat model, prompted for a reply in its own chat format.

Reads  DATA/lm_test.csv and a chat model in models/base/.
Writes OUT, a CSV of candidates. Add it to the realism files with `prepare realism`; `evaluate` then measures realism against it separately.

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

PROMPT = "You are a user of Reddit. Write one short reply to this comment, and nothing else.\n\n{comment}"
TEMPERATURE, TOP_P, MAX_TOKENS = 0.8, 0.9, 60


def main(
    out: Annotated[Path, typer.Option(help="CSV file to write")],
    data: Annotated[Path, typer.Option(help="folder with lm_test.csv")] = Path("data/prepared"),
    base: Annotated[str, typer.Option(help="name of a chat model under models/base")] = "smollm2-135m-instruct",
    rows: Annotated[int, typer.Option(min=1, help="number of comments, drawn at random")] = 130,
    seed: Annotated[int, typer.Option()] = 1,
) -> None:
    """Generate one candidate per comment with a chat model."""
    import torch
    from transformers import AutoModelForCausalLM

    model, tokenizer = loading.load(bases.base_path(base), AutoModelForCausalLM)
    comments = {row.comment_id: row.comment for row in schema.read_rows(data / "lm_test.csv", LmRow)}
    drawn = random.Random(seed).sample(sorted(comments), min(rows, len(comments)))
    torch.manual_seed(seed)
    candidates = []
    for comment_id in drawn:
        messages = [{"role": "user", "content": PROMPT.format(comment=comments[comment_id][:1000])}]
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            output = model.generate(**prompt, do_sample=True, temperature=TEMPERATURE, top_p=TOP_P, max_new_tokens=MAX_TOKENS)
        reply = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()
        candidates.append(Candidate(comment_id, f"{comment_id}-0", seed, comments[comment_id], reply, f"chat:{base}", None))
    count = schema.write_rows(out, Candidate, candidates)
    print(f"{count:,} candidates in {out}")


if __name__ == "__main__":
    run_command(main, "chat_fakes.py")
