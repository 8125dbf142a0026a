"""Tiny models with random weights, created from a config in a second: real code paths without downloads."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import random
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertConfig, BertForSequenceClassification, BertModel, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from bot import cli, schema, text
from bot.__main__ import command_of, find
from bot.cli import UserError
from bot.schema import LmRow
from bot.train import TRAINERS

TEXT = [
    "Which book made you laugh out loud on the train? I need something light for a long journey.",
    "Try the one about the lighthouse keeper, it is short and funny and the ending is kind.",
    "My kettle takes ten minutes to boil, is that normal or should I clean it? Vinegar works!",
    "Write the essay about the thing you did on Saturdays, they read a thousand essays about winning.",
]


def rounding(layers: int = 2, terms: int = 64, largest: float = 1.0) -> float:
    """The tolerance for two float32 implementations of the same network, for values up to `largest`, on any processor.

    A sum of n terms in another order has a relative difference of about eps * sqrt(n) (Higham and Mary 2019, doi:10.1137/18M1226312), and a
    transformer layer has about 10 consecutive sums. The defaults fit the models in this file and give 2e-5.
    """
    return float(np.finfo(np.float32).eps) * math.sqrt(terms) * 10 * layers * largest


def gpt2_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE like that of GPT-2, trained on TEXT. Start, end and padding are the same token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end, pad_token=end)


def language_model(folder: Path) -> Path:
    """A GPT-2 with 2 layers and width 32."""
    tokenizer = gpt2_tokenizer()
    torch.manual_seed(0)
    end = tokenizer.eos_token_id
    ends = {"bos_token_id": end, "eos_token_id": end}
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=256, n_embd=32, n_layer=2, n_head=2, initializer_range=0.3, **ends)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def served_model(folder: Path, chat_template: str, context: int) -> Path:
    """A GPT-2 like that of language_model for `transformers serve`, which samples only if the model's own settings say so."""
    tokenizer = gpt2_tokenizer()
    tokenizer.chat_template = chat_template
    torch.manual_seed(0)
    ends = {"bos_token_id": tokenizer.eos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"vocab_size": len(tokenizer), "n_positions": context, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **ends))
    model.generation_config.do_sample = True
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gpt2_encoder(folder: Path, n_vocab: int = 0) -> int:
    """Write encoder.json and vocab.bpe in OpenAI's format, padded to n_vocab ids. Returns the number of ids."""
    model = json.loads(gpt2_tokenizer().backend_tokenizer.to_str())["model"]
    merges = [" ".join(merge) for merge in model["merges"]] + [". <"]  # GPT-2's merge that joins a reply with its end token
    ids = {**model["vocab"], ".<": len(model["vocab"])}
    ids |= {f"<unused{n}>": n for n in range(len(ids), n_vocab)}
    (folder / "encoder.json").write_text(json.dumps(ids), encoding="ascii")
    (folder / "vocab.bpe").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    return len(ids)


def gpt2_checkpoint(folder: Path, n_embd: int = 32, n_layer: int = 2, n_head: int = 2, n_ctx: int = 64, n_vocab: int = 0) -> Path:
    """A checkpoint for gpt-2-simple with random weights, with the file and variable names of OpenAI's checkpoints."""
    import tensorflow as tf
    from gpt_2_simple.src import model

    folder.mkdir(parents=True, exist_ok=True)
    sizes = {"n_vocab": gpt2_encoder(folder, n_vocab), "n_ctx": n_ctx, "n_embd": n_embd, "n_head": n_head, "n_layer": n_layer}
    (folder / "hparams.json").write_text(json.dumps(sizes), encoding="ascii")
    hparams = model.default_hparams()
    hparams.override_from_dict(sizes)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(0)
        model.model(hparams, tf.zeros([1, 1], tf.int32))
        session.run(tf.compat.v1.global_variables_initializer())
        if n_embd < 100:  # a narrow model needs larger weights to prefer some tokens over others
            for variable in tf.compat.v1.trainable_variables():
                if not variable.op.name.endswith(("/g", "/b")):
                    session.run(variable.assign(variable * 12))
        tf.compat.v1.train.Saver().save(session, str(folder / "model.ckpt"))
    return folder


def eager_again() -> None:
    """Turn eager execution on again. Importing gpt_2_simple turns it off for the process, and other tests need it."""
    import tensorflow as tf

    tf.compat.v1.reset_default_graph()  # enable_eager_execution fails if the default graph was used
    tf.compat.v1.enable_eager_execution()


def lm_rows(pairs: list[tuple[str, str]], folder: Path, held_out: list[tuple[str, str]] | None = None) -> Path:
    """Write lm_{train,val,test}.csv with these pairs. held_out: for val and test [default: the same pairs]."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, part in (("train", pairs), ("val", held_out or pairs), ("test", held_out or pairs)):
        rows = [LmRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "sandbox_books", *pair) for n, pair in enumerate(part)]
        schema.write_rows(folder / f"lm_{split}.csv", LmRow, rows)
    return folder


# Options of `train lm` for a network that learns in seconds.
ENCODER_DECODERS: dict[str, dict[str, Any]] = {
    "keras-seq2seq": {"width": 32, "units": 48, "layers": 1},
    "keras-transformer": {"width": 32, "layers": 1, "heads": 2, "warmup": 10},
}


def encoder_decoder(folder: Path, backend: str) -> Path:
    """A generator in Keras, trained for some steps on replies of one to eight words of TEXT at random."""
    eager_again()
    rng, words = random.Random(0), " ".join(TEXT).split()
    pairs = [(rng.choice(TEXT), " ".join(rng.choices(words, k=rng.randint(1, 8)))) for _ in range(150)]
    sizes = {"vocabulary": 400, "epochs": 4, "batch_tokens": 600, "max_tokens": 32, "learning_rate": 1e-2, **ENCODER_DECODERS[backend]}
    train("lm", backend, data=lm_rows(pairs, folder.with_name("lm-data")), out=folder, **sizes)
    return folder


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece with the sorted words and letters of TEXT. (The library's trainer assigns different ids in each process.)"""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    words = {word for body in TEXT for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(body))}
    letters = {letter for word in words for letter in word}
    pieces = [*special, *sorted(words | letters), *sorted(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.decoder = decoders.WordPiece()
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def encoder(folder: Path, seed: int = 0, head: bool = True) -> Path:
    """A BERT with 2 layers and width 32, and with a head of one output if `head`. Each seed gives a different ranker."""
    tokenizer = bert_tokenizer()
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    (BertForSequenceClassification(config) if head else BertModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tfhub_ranker(encoder: Path, folder: Path) -> Path:
    """An untrained ranker of back end tfhub-bert, with an encoder that `models export-tfhub` wrote."""
    from bot.rankers.tfhub_bert import Wordpieces
    from bot.train import tfhub_bert
    from bot.weights import cards

    layer, width = tfhub_bert.load_encoder(encoder, str(encoder))
    tfhub_bert.Classifier(layer, width, 2, seed=0).save(folder)
    settings = {"classes": 2, "vocabulary": len(Wordpieces(layer.resolved_object, str(encoder)).ids)}
    card = cards.ModelCard(kind="realism", base=encoder.name, base_sha256="0" * 64, format="full", settings=settings)
    cards.write_card(folder, card)
    return folder


def glove_ranker(folder: Path) -> Path:
    """An untrained ranker of back end glove-bilstm, with the words of TEXT and random vectors."""
    import keras

    from bot.rankers import glove_bilstm
    from bot.weights import cards

    words = sorted({word for body in TEXT for word in glove_bilstm.words_of(body)})
    keras.utils.set_random_seed(0)
    sizes = {"width": 8, "units": 8, "dense": 8, "dropout": 0.0}
    network = glove_bilstm.Network(len(words) + 2, **sizes)
    network.embedding.embeddings.assign(np.random.default_rng(0).normal(0.0, 2.0, (len(words) + 2, 8)))
    folder.mkdir(parents=True)
    glove_bilstm.save(network, words, folder)
    settings = {"backend": glove_bilstm.NAME, **sizes, "scale": 1.0, "offset": 0.0}
    cards.write_card(folder, cards.ModelCard("realism", "tiny", "0" * 64, "full", settings=settings))
    return folder


def numbers_of_rankers(prefix: str, count: int) -> list[int]:
    """The first `count` numbers n for which the thread `t3_{prefix}{n}` is in the half for rankers."""
    return list(islice((n for n in itertools.count() if text.half_for(f"t3_{prefix}{n}") == "rankers"), count))


def start_in_process(arguments: list[str], variables: dict[str, Any]) -> None:
    """Replacement for `score_files.start` without a new process, for a stage whose framework is already loaded in this one."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        for name, value in variables.items():
            patch.setenv(f"BOT_{name}", str(value))
        stage, options = find(arguments)
        cli.run_command(command_of(stage), stage, options)
    if end.value.code:
        raise UserError("failed")


def train(task: str, backend: str = "", **options: Any) -> None:
    """Like `train TASK --backend BACKEND`, without the checks of --out and without evaluation."""
    module = importlib.import_module(TRAINERS[task][backend or next(iter(TRAINERS[task]))].module)
    module.train(module.Options(**options))
