"""Generators and encoders of many architectures: each one is exported with results equal to transformers, or refused with a one-line error.

The models are tiny, have random weights, and are made from their configs.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast

from bot import generators, rankers, schema, text
from bot.cli import ROOT, UserError
from bot.config import GenerateSettings
from bot.export import to_ctranslate2
from bot.generators import transformers as reference
from bot.rankers import transformers as encoding
from bot.schema import LabelledRow, RealismRow, UpvotePair
from bot.train import encoders, lm_transformers, loop
from bot.weights import bases, cards, loading, pull
from tests import tiny

COMMENTS = [("t1_a", "Which book made you laugh?"), ("t1_b", "My kettle takes ten minutes to boil.")]
SETTINGS = GenerateSettings(num_candidates=2, max_new_tokens=8, temperature=1.0, top_p=1.0)

GPT2: dict[str, Any] = {"n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
LLAMA: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "initializer_range": 0.3,
}  # fmt: skip
OPT: dict[str, Any] = {
    "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256,
    "word_embed_proj_dim": 32, "init_std": 0.3,
}  # fmt: skip
GEMMA = LLAMA | {"head_dim": 8}
GEMMA2 = GEMMA | {"query_pre_attn_scalar": 8}


def rope(kind: str = "default", **options: float) -> dict[str, Any]:
    return LLAMA | {"rope_parameters": {"rope_type": kind, "rope_theta": 10_000.0, **options}}


# name -> (model type, config)
EXPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2 with ReLU": ("gpt2", GPT2 | {"activation_function": "relu"}),
    "gpt2 with an output layer": ("gpt2", GPT2 | {"tie_word_embeddings": False}),
    "gpt_bigcode": ("gpt_bigcode", GPT2),
    "gptj": ("gptj", GPT2 | {"rotary_dim": 8}),
    "codegen": ("codegen", GPT2 | {"rotary_dim": 8, "n_head": 4}),
    "opt": ("opt", OPT),
    "opt normalized afterwards": ("opt", OPT | {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "falcon": ("falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.3}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "initializer_range": 0.3}),
    "llama": ("llama", LLAMA),
    "llama with another theta": ("llama", rope(rope_theta=500.0)),
    "llama with linear scaling": ("llama", rope("linear", factor=4.0)),
    "llama with another epsilon": ("llama", LLAMA | {"rms_norm_eps": 0.5}),
    "llama with biases": ("llama", LLAMA | {"attention_bias": True, "mlp_bias": True}),
    "mistral": ("mistral", LLAMA | {"sliding_window": None}),
    "mistral with a window longer than any text": ("mistral", LLAMA | {"sliding_window": 4096}),
    "mistral with wide heads": ("mistral", LLAMA | {"head_dim": 16}),
    "qwen2": ("qwen2", LLAMA),
    "qwen3": ("qwen3", GEMMA),
    "gemma": ("gemma", GEMMA),
    "gemma2 without caps": ("gemma2", GEMMA2 | {"final_logit_softcapping": None, "attn_logit_softcapping": None}),
}
# name -> (model type, config, part of the reason). An update of CTranslate2 may make some of them exportable; then move them.
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt2 scaled by layer": ("gpt2", GPT2 | {"scale_attn_by_inverse_layer_idx": True}, "differ by"),
    "gpt2 without scaling": ("gpt2", GPT2 | {"scale_attn_weights": False}, "differ by"),
    "gpt2 with another epsilon": ("gpt2", GPT2 | {"layer_norm_epsilon": 0.5}, "differ by"),
    "llama 3": (
        "llama", rope("llama3", factor=8.0, high_freq_factor=4.0, low_freq_factor=1.0, original_max_position_embeddings=64), "differ by"
    ),
    "llama with GELU": ("llama", LLAMA | {"hidden_act": "gelu"}, "differ by"),
    "llama with dynamic scaling": ("llama", rope("dynamic", factor=4.0), "dynamic"),
    "llama with wide heads": ("llama", LLAMA | {"head_dim": 16}, "does not run"),
    "mistral with a short window": ("mistral", LLAMA | {"sliding_window": 16}, "does not run"),
    "gemma with another theta": ("gemma", GEMMA | {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, "differ by"),
    "gemma2 with caps": ("gemma2", GEMMA2 | {"final_logit_softcapping": 3.0, "attn_logit_softcapping": 0.5}, "differ by"),
    "gemma3": ("gemma3_text", GEMMA2 | {"sliding_window": 16}, "does not run"),
    "gpt_neo": (
        "gpt_neo",
        {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]], "max_position_embeddings": 256},
        "GPTNeoConfig",
    ),
    "gpt_neox": (
        "gpt_neox", {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}, 'the model has no "rotary_pct"'
    ),
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 256}, "MptConfig"),
    "phi3": ("phi3", LLAMA | {"original_max_position_embeddings": 256}, "type"),
    "granite": ("granite", LLAMA | {"logits_scaling": 8.0, "embedding_multiplier": 12.0}, "GraniteConfig"),
    "cohere": ("cohere", LLAMA | {"logit_scale": 0.0625}, "CohereConfig"),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, "mamba has no attention"),
    "olmo2": ("olmo2", LLAMA, "Olmo2Config"),
    "stablelm": ("stablelm", LLAMA, "StableLmConfig"),
    "starcoder2": ("starcoder2", LLAMA, "Starcoder2Config"),
}  # fmt: skip


def generator(folder: Path, kind: str, options: dict[str, Any]) -> Path:
    tokenizer = tiny.gpt2_tokenizer()
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), tokenizer.eos_token_id)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, vocab_size=len(tokenizer), **ids, **options)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_matrix_is_wide() -> None:
    """At least 14 architectures, and in each table at least seven."""
    exported, refused = ({each[0] for each in table.values()} for table in (EXPORTED, REFUSED))
    assert len(exported | refused) >= 14 and len(exported) >= 7 and len(refused) >= 7 and len(ENCODERS) >= 7


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_generator_equals_its_source(tmp_path: Path, name: str) -> None:
    source = generator(tmp_path / "model", *EXPORTED[name])
    engine = ctranslate2.Generator(str(to_ctranslate2.export(source, "float32")), compute_type="float32")
    model, tokenizer = reference.load_model(source)
    for comment, reply in zip(tiny.TEXT, tiny.TEXT[1:], strict=False):
        ids = tokenizer(text.format_training_text(comment, reply))["input_ids"]
        with torch.inference_mode():
            expected = model(torch.tensor([ids])).logits[0].softmax(-1).numpy()
        served = np.exp(np.array(engine.forward_batch([[str(each) for each in ids]], return_log_probs=True)))[0]
        assert np.abs(served[:, : expected.shape[1]] - expected).max() < 1e-3 and expected.max() > 0.05  # the distribution is not flat


@pytest.mark.parametrize("name", REFUSED)
def test_another_model_is_refused_and_works_with_transformers(tmp_path: Path, name: str) -> None:
    kind, options, reason = REFUSED[name]
    source = generator(tmp_path / "model", kind, options)
    with pytest.raises(UserError, match=r"use the back end transformers \(--engine transformers\)$") as refusal:
        to_ctranslate2.export(source, "float32")
    assert reason in str(refusal.value) and "\n" not in str(refusal.value) and "object has no attribute" not in str(refusal.value)
    assert not list((tmp_path / ".serving").glob("model*"))  # no incomplete files
    rows = list(generators.load("transformers", source).sample(COMMENTS, SETTINGS, 1))
    assert [len(row) for row in rows] == [2, 2] and all(each.log_likelihood < 0 for row in rows for each in row)


def test_the_commands_refuse_it_in_one_line(tmp_path: Path) -> None:
    source = generator(tmp_path / "model", *REFUSED["llama 3"][:2])
    for words in (["models", "export", str(source)], ["generate", "--text", "Is it?", "--model", str(source)]):
        done = subprocess.run([sys.executable, "-m", "bot", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stdout == "", done
        assert done.stderr.splitlines()[-1].endswith("use the back end transformers (--engine transformers)"), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["gpt2", "llama with biases", "qwen2"])
def test_int8_is_close_to_its_source_even_for_a_short_context(tmp_path: Path, name: str) -> None:
    kind, options = EXPORTED[name]
    limit = "n_positions" if kind == "gpt2" else "max_position_embeddings"
    source = generator(tmp_path / "model", kind, options | {limit: 24})
    engine = ctranslate2.Generator(str(to_ctranslate2.export(source, "int8")), compute_type="int8")
    model, tokenizer = reference.load_model(source)
    ids = tokenizer(tiny.TEXT[0])["input_ids"][:24]
    with torch.inference_mode():
        expected = model(torch.tensor([ids])).logits[0].softmax(-1).numpy()
    result = np.exp(np.array(engine.forward_batch([[str(each) for each in ids]], return_log_probs=True)))[0][:, : expected.shape[1]]
    # Random weights of width 32 round badly, so the yardstick is how much the distributions of different places differ.
    assert np.abs(result - expected).sum(1).mean() < np.abs(expected[1:] - expected[:-1]).sum(1).mean() / 2


@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2 with caps"])
def test_likelihoods_are_those_of_the_models_own_logits(tmp_path: Path, name: str) -> None:
    """These models scale or cap the logits after the output layer."""
    kind, options, _ = REFUSED[name]
    source = generator(tmp_path / "model", kind, options)
    model, tokenizer = reference.load_model(source)
    ids, start = reference.encode_training_row(tokenizer, *tiny.TEXT[:2], 200)
    with torch.inference_mode():
        own = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
    expected = float(own[torch.arange(start - 1, len(ids) - 1), ids[start:]].mean())
    assert generators.load("transformers", source).log_likelihoods([(tiny.TEXT[0], tiny.TEXT[1])], SETTINGS)[0] == pytest.approx(
        expected, abs=1e-4
    )
    row = schema.LmRow("t3_a", "t1_a", "t1_b", "books", *tiny.TEXT[:2])
    measured = reference.reply_perplexity(source, [row], 1, {"max_tokens": 200})
    assert math.log(measured["perplexity"]) == pytest.approx(-expected, abs=1e-4)


@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2 with caps"])
def test_the_loss_of_training_is_that_of_the_models_own_logits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two rows of different lengths in one batch: of the function, and of the first step of `train lm`, before any weight changes."""
    kind, options, _ = REFUSED[name]
    source = generator(tmp_path / "model", kind, options)
    model, tokenizer = reference.load_model(source)
    pairs = [(tiny.TEXT[0], tiny.TEXT[1]), (tiny.TEXT[2], "Vinegar works!")]
    batch = [reference.encode_training_row(tokenizer, *pair, 200) for pair in pairs]
    losses: list[torch.Tensor] = []
    for ids, start in batch:
        with torch.inference_mode():
            own = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
        losses.append(-own[torch.arange(start - 1, len(ids) - 1), ids[start:]])
    expected = float(torch.cat(losses).mean())
    assert not reference.has_plain_output(model)
    with torch.inference_mode():
        loss, unscaled = (float(lm_transformers.batch_loss(model, batch, torch.device("cpu"), plain)) for plain in (False, True))
    assert loss == pytest.approx(expected, abs=1e-4) and abs(unscaled - expected) > 0.2

    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    monkeypatch.setattr(loop, "autocast_enabled", lambda: False)  # in float32
    pull.pull("tiny", source)
    data = tiny.lm_rows(pairs, tmp_path / "data")
    tiny.train("lm", base="tiny", data=data, out=tmp_path / "lm", pairs=2, max_tokens=200, batch_tokens=1000)
    (step,) = schema.read_rows(tmp_path / "lm" / "losses.csv", schema.LossRow)
    assert step.train_loss == pytest.approx(expected, abs=1e-3)


# --- encoders -----------------------------------------------------------------------------------------------------------------

SIZES: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "initializer_range": 0.3
}  # fmt: skip
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES | {"type_vocab_size": 1, "max_position_embeddings": 514},
    "xlm-roberta": SIZES | {"type_vocab_size": 1, "max_position_embeddings": 514},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "initializer_range": 0.3},
    "mpnet": SIZES | {"max_position_embeddings": 514},
    "electra": SIZES | {"embedding_size": 16},
    "albert": SIZES | {"embedding_size": 16, "num_hidden_groups": 1},
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "max_position_embeddings": 256},
    "modernbert": SIZES,
}
ANGULAR = {"roberta", "xlm-roberta", "mpnet", "modernbert", "t5", "bart"}  # these use the control tokens <s> and </s>
# name -> (model type, config, number of tokens that it takes; 160 is the padded width of the longest pair)
LIMITED: dict[str, tuple[str, dict[str, Any], int]] = {
    "bert with one segment": ("bert", SIZES | {"type_vocab_size": 1}, 160),
    "short bert": ("bert", SIZES | {"max_position_embeddings": 64}, 64),
    "bert of odd length and one segment": ("bert", SIZES | {"max_position_embeddings": 41, "type_vocab_size": 1}, 41),
    "bert for a pair without its padding": ("bert", SIZES | {"max_position_embeddings": 150}, 150),
    "short roberta": ("roberta", SIZES | {"type_vocab_size": 1, "max_position_embeddings": 66}, 64),
    "short mpnet": ("mpnet", SIZES | {"max_position_embeddings": 50}, 48),
    "short distilbert": ("distilbert", ENCODERS["distilbert"] | {"max_position_embeddings": 72}, 72),
    "xlnet, without positions": ("xlnet", {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64}, 160),
}
# name -> (model type, config, part of the reason)
NO_ENCODERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bert for 20 tokens": ("bert", SIZES | {"max_position_embeddings": 20}, "the encoder takes 20 tokens, but needs 32"),
    "roberta for 31 tokens": ("roberta", SIZES | {"type_vocab_size": 1, "max_position_embeddings": 33}, "takes 31 tokens, but needs 32"),
    "t5": ("t5", {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16, "d_ff": 64}, "an encoder-decoder such as T5"),
    "bart": (
        "bart", {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
        "an encoder-decoder such as T5",
    ),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, "Unrecognized configuration class"),
    "llama without padding": ("llama", LLAMA | {"pad_token_id": None}, "batch sizes > 1 if no padding token"),
    "vit": ("vit", SIZES | {"image_size": 8, "patch_size": 4}, "Unrecognized configuration class"),
}  # fmt: skip
REASONS = {("vit", "relevance"): "the model reads pixel_values, not text"}  # (name, task) -> part of another reason
WITHOUT_HEAD = {"mamba", "llama without padding"}  # for pairs; relevance does not need it


def angular_tokenizer() -> PreTrainedTokenizerFast:
    names = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "unk": "<unk>", "mask": "<mask>"}
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=list(dict.fromkeys(names.values())), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(tiny.TEXT, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()})


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    for name, options in ENCODERS.items():
        encoder(folder / name, name, options)
    return folder


def encoder(folder: Path, kind: str, options: dict[str, Any]) -> Path:
    tokenizer = angular_tokenizer() if kind in ANGULAR else tiny.bert_tokenizer()
    torch.manual_seed(0)
    ids = {"pad_token_id": tokenizer.pad_token_id, "vocab_size": len(tokenizer)}
    AutoModel.from_config(AutoConfig.for_model(kind, **ids | options)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def base(request: pytest.FixtureRequest, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The encoder named by the parameter, pulled as a base."""
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    name = f"tiny-{request.param}"
    pull.pull(name, encoder_folder / request.param)
    return name


def write_data(folder: Path) -> Path:
    """A liked and a disliked reply to each comment, and which replies belong to it."""
    liked, disliked = "That one made me laugh out loud.", "Buy cheap watches now."
    for split, count in (("train", 24), ("val", 8), ("test", 24)):
        numbers = tiny.numbers_of_rankers(split, count)
        pairs = [
            UpvotePair(f"t3_{split}{n}", f"t1_{n}", "t1_x", "t1_y", "books", tiny.TEXT[n % 4], liked, disliked, 30, 0.0) for n in numbers
        ]
        schema.write_rows(folder / f"upvote_pairs_{split}.csv", UpvotePair, pairs)
        rows = [
            LabelledRow(f"t3_{split}{n}", f"t1_{n}", f"t1_r{n}", "books", tiny.TEXT[n % 4], f"{tiny.TEXT[(n + 1) % 4]} {n}", int(n % 3 > 0))
            for n in numbers
        ]
        schema.write_rows(folder / f"relevance_{split}.csv", LabelledRow, rows)
        real = [RealismRow(*row[:5], *each) for row in map(astuple, rows) for each in ((liked, 1, ""), (disliked, 0, "g"))]
        schema.write_rows(folder / f"realism_{split}.csv", RealismRow, real)
    return folder


@pytest.mark.parametrize("base", ENCODERS, indirect=True)
@pytest.mark.parametrize("method", ["lora", "layers"])
def test_a_ranker_is_trained_on_any_encoder(base: str, method: str, tmp_path: Path) -> None:
    out = tmp_path / "upvote"
    data = write_data(tmp_path)
    tiny.train("upvote", base=base, data=data, out=out, rows=48, epochs=4, batch_tokens=512, learning_rate=5e-3, method=method)
    losses = [row.train_loss for row in schema.read_rows(out / "losses.csv", schema.LossRow)]
    pairs = [(tiny.TEXT[0], "That one made me laugh out loud."), (tiny.TEXT[0], "Buy cheap watches now.")]
    liked, disliked = rankers.load("transformers", out).score(pairs)
    assert losses[-1] < losses[0] and liked > disliked + 0.1


@pytest.mark.parametrize("base", ENCODERS, indirect=True)
def test_the_other_rankers_are_trained_on_any_encoder(base: str, tmp_path: Path) -> None:
    data = write_data(tmp_path)
    options = {"base": base, "data": data, "batch_tokens": 512, "learning_rate": 5e-3}
    tiny.train("upvote", out=tmp_path / "upvote", realism_out=tmp_path / "both", rows=24, **options)
    tiny.train("realism", out=tmp_path / "realism", rows=48, epochs=4, **options)
    tiny.train("relevance", out=tmp_path / "relevance", rows=24, **options)
    pairs = [(tiny.TEXT[0], "That one made me laugh out loud."), (tiny.TEXT[0], "Buy cheap watches now.")]
    for name in ("upvote", "both", "realism", "relevance"):
        scores = rankers.load("transformers", tmp_path / name).score(pairs)
        assert all(0 <= each <= 1 for each in scores) and scores[0] != scores[1]
    human, generated = rankers.load("transformers", tmp_path / "realism").score(pairs)
    assert human > generated + 0.1


@pytest.mark.parametrize("base", ["bert", "roberta", "distilbert"], indirect=True)
def test_a_ranker_is_evaluated_with_a_back_end_that_runs_its_encoder(base: str) -> None:
    card = cards.ModelCard(kind="upvote", base=base, base_sha256="0" * 64, format="adapter")
    assert rankers.back_end_for(card, "") == ("ctranslate2" if base == "tiny-bert" else "transformers")
    assert rankers.back_end_for(card, "transformers") == "transformers"
    of_another = cards.ModelCard(kind="upvote", base="https://example.org/bert/1", base_sha256="0" * 64, format="full")
    assert rankers.back_end_for(of_another, "") == "ctranslate2"  # nothing is known of its encoder


@pytest.mark.parametrize("base", ENCODERS, indirect=True)
def test_control_tokens_that_people_type_are_text(base: str) -> None:
    """`</s>` ends sarcasm on Reddit, and separates the pair in RoBERTa's tokenizer."""
    model, tokenizer = encoders.encoder_to_train(AutoModel, bases.base_path(base))
    typed = " ".join(["Great idea", *sorted(set(tokenizer.all_special_tokens)), "too"])
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    plain, _ = encoding.encode_pair(tokenizer, "Great idea", "Why not?")
    ids, segments = encoding.encode_pair(tokenizer, typed, "Why not?")
    assert [each for each in ids if each in special] == [each for each in plain if each in special]
    once = encoding.encode_text(tokenizer, typed)
    assert [each for each in once if each in special] == [once[0], once[-1]]
    assert set(segments) == ({0, 1} if encoding.takes_segments(model) else set(segments))


def test_only_bert_is_exported(encoder_folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    for name in ENCODERS:
        model, tokenizer = loading.load(encoder_folder / name, AutoModel)
        folder = tmp_path / name
        model.config.num_labels = 1
        AutoModelForSequenceClassification.from_config(model.config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if name == "bert":
            pair = [("a book", "a kettle")]
            to_ctranslate2.export(folder, "float32")
            served = rankers.load("ctranslate2", folder, "float32").score(pair)
            assert served == pytest.approx(rankers.load("transformers", folder).score(pair), abs=1e-4)
        else:
            with pytest.raises(UserError, match="only BERT can be exported, set rank.backend to transformers"):
                to_ctranslate2.export(folder, "float32")


@pytest.mark.parametrize("head", [True, False], ids=["of pairs", "dual encoder"])
def test_a_bert_that_the_export_would_change_is_refused(tmp_path: Path, head: bool) -> None:
    """CTranslate2 ignores is_decoder, with which each token sees only those before it."""
    source = tiny.encoder(tmp_path / "ranker", head=head)
    if not head:
        fitted = {"architecture": "dual encoder", "scale": 1.0, "offset": 0.0}
        cards.write_card(source, cards.ModelCard("relevance", "tiny", "0" * 64, "full", settings=fitted))
    content = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(content | {"is_decoder": True}))
    with pytest.raises(UserError) as refusal:
        to_ctranslate2.export(source, "float32")
    message = re.fullmatch(r".* \(outputs of the export differ by (.*)\); set rank.backend to transformers", str(refusal.value))
    assert message and float(message[1]) > 0.1
    assert not list((tmp_path / ".serving").glob("ranker*"))  # no incomplete files
    (score,) = rankers.load("transformers", source).score([(tiny.TEXT[0], tiny.TEXT[1])])
    assert 0 < score < 1


@pytest.mark.parametrize(("change", "is_refused"), [(5e-4, False), (2e-3, True)])
def test_the_outputs_of_an_exported_bert_may_differ_by_a_thousandth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: float, is_refused: bool
) -> None:
    source, save = tiny.encoder(tmp_path / "ranker"), to_ctranslate2.save_serving

    def save_another(source: Path, model: Any, *rest: Any) -> None:
        model.encoder.layer[-1].output.LayerNorm.bias.data += change  # the last step of the encoder
        save(source, model, *rest)

    monkeypatch.setattr(to_ctranslate2, "save_serving", save_another)
    if is_refused:
        with pytest.raises(UserError, match=r"\(outputs of the export differ by 0\.002\)"):
            to_ctranslate2.export(source, "float32")
    else:
        assert (to_ctranslate2.export(source, "float32") / "model.bin").exists()


LONG = ("Which book made you laugh on the train? " * 30, "It is short and funny and the ending is kind. " * 30)


@pytest.mark.parametrize("name", LIMITED)
def test_pairs_are_cut_to_what_the_encoder_takes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In training, with transformers and, for BERT, in the export; both texts keep a part."""
    kind, options, longest = LIMITED[name]
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny", encoder(tmp_path / "encoder", kind, options))
    data = write_data(tmp_path)
    for each in ("upvote_pairs_train", "relevance_train"):
        row_type: Any = UpvotePair if "pairs" in each else LabelledRow
        rows = schema.read_rows(data / f"{each}.csv", row_type)
        schema.write_rows(data / f"{each}.csv", row_type, [replace(row, comment=f"{row.comment} {LONG[0]}") for row in rows])
    common = {"base": "tiny", "data": data, "rows": 24, "batch_tokens": 4096}
    tiny.train("upvote", out=tmp_path / "upvote", **common)
    tiny.train("relevance", out=tmp_path / "relevance", **common)
    pairs = [LONG, (LONG[0], f"Never. {LONG[1]}"), (f"Never. {LONG[0]}", LONG[1]), ("a book", "a kettle")]
    for ranker in ("upvote", "relevance"):
        loaded = rankers.load("transformers", tmp_path / ranker)
        assert loaded.tokenizer.model_max_length == longest  # type: ignore[attr-defined]
        expected = loaded.score(pairs)
        assert loaded.score(pairs[3:]) == pytest.approx(expected[3:], abs=tiny.rounding(largest=5))
        if kind == "bert":
            to_ctranslate2.export(tmp_path / ranker, "float32")
            served = rankers.load("ctranslate2", tmp_path / ranker, "float32").score(pairs)
            assert served == pytest.approx(expected, abs=tiny.rounding(largest=20))
    tokenizer = rankers.load("transformers", tmp_path / "upvote").tokenizer  # type: ignore[attr-defined]
    ids, segments = encoding.encode_pair(tokenizer, *LONG)
    assert len(ids) == min(longest, rankers.MAX_TOKENS) and min(segments.count(0), segments.count(1)) > len(ids) // 3
    assert len(encoding.encode_text(tokenizer, LONG[0])) == min(longest, rankers.MAX_TOKENS)


@pytest.mark.parametrize(
    ("name", "task"),
    [*((name, "upvote") for name in NO_ENCODERS), *((name, "relevance") for name in sorted(NO_ENCODERS.keys() - WITHOUT_HEAD))],
)
def test_a_base_that_is_no_encoder_is_refused_before_training(
    name: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, options, reason = NO_ENCODERS[name]
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    folder = encoder(tmp_path / "encoder", kind, options)
    if kind in ("t5", "bart"):
        with pytest.raises(UserError, match=f"encoder: {bases.ENCODER_DECODER}"):
            pull.pull("tiny", folder)
        with monkeypatch.context() as patch:  # as pulled by an earlier version
            patch.setattr(bases, "kind_of", lambda *_: "encoder")
            pull.pull("tiny", folder)
    else:
        pull.pull("tiny", folder)
    with pytest.raises(UserError) as refusal:
        tiny.train(task, base="tiny", data=write_data(tmp_path), out=tmp_path / "out")
    message = str(refusal.value)
    assert str(tmp_path / "bases" / "tiny") in message and "\n" not in message and "another" in message
    assert REASONS.get((name, task), reason) in message
    assert not (tmp_path / "out").exists()


def test_layers_are_trained_only_where_the_embeddings_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "BASE_DIR", tmp_path / "bases")
    pull.pull("tiny", encoder(tmp_path / "encoder", *LIMITED["xlnet, without positions"][:2]))
    with pytest.raises(UserError, match="--method layers needs an encoder like BERT; use --method lora"):
        tiny.train("upvote", base="tiny", data=write_data(tmp_path), out=tmp_path / "out", method="layers")
