"""Training: one module per task and back end, with `Options` and `train(options)`. To add one, add a module here and a line in TRAINERS.

    python run_bot.py train TASK [--backend NAME] [--OPTION VALUE …]

`Options` is a frozen data class: its fields and defaults become the command's options. `train` reads prepared files and a base, and
writes a model folder. A trainer module imports its framework inside functions, because the command lists the options of every trainer.
"""

from __future__ import annotations

from typing import NamedTuple

from bot.weights.bases import Kind


class Trainer(NamedTuple):
    module: str  # has `Options`, `LIMITS` (for cards) and `train(options)`
    bases: tuple[Kind, ...] = ()  # kinds of base it can train; empty: the trainer checks the base itself
    is_parallel: bool = False  # whether several processes can train together, see `processes`


# Task -> back end -> trainer. The first back end of a task is its default.
TRAINERS = {
    "lm": {
        "transformers": Trainer("bot.train.lm_transformers", ("lm", "encoder"), is_parallel=True),
        "gpt-2-simple": Trainer("bot.train.lm_gpt_2_simple", ("gpt2",)),
        "keras-seq2seq": Trainer("bot.train.lm_keras_seq2seq"),
        "keras-transformer": Trainer("bot.train.lm_keras_transformer"),
    },
    "realism": {
        "transformers": Trainer("bot.train.realism_transformers", ("lm", "encoder"), is_parallel=True),
        "tfhub-bert": Trainer("bot.train.realism_tfhub_bert"),
        "glove-bilstm": Trainer("bot.train.realism_glove_bilstm"),
    },
    "upvote": {
        "transformers": Trainer("bot.train.upvote_transformers", ("lm", "encoder"), is_parallel=True),
        "tfhub-bert": Trainer("bot.train.upvote_tfhub_bert"),
        "glove-bilstm": Trainer("bot.train.upvote_glove_bilstm"),
    },
    "relevance": {
        "transformers": Trainer("bot.train.relevance_transformers", ("lm", "encoder")),
    },
    "choice": {
        "transformers": Trainer("bot.train.choice_transformers", ("encoder",), is_parallel=True),
    },
    "conduct": {
        "transformers": Trainer("bot.train.conduct_transformers", ("encoder",), is_parallel=True),
    },
}  # fmt: skip
