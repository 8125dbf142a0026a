"""The TensorFlow Hub ranker and the export of its encoder: tiny models, invented rows, local hubs."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import torch
from rich.console import Console
from transformers import AutoTokenizer, BertModel

from bot import files, rankers, schema
from bot.cli import ROOT, UserError
from bot.evaluate import evaluate
from bot.export import to_tfhub
from bot.rankers import score_files
from bot.rankers.tfhub_bert import INPUTS, TFHubBert, Wordpieces, inputs_of
from bot.rankers.transformers import encode_pair
from bot.schema import Harvested, LossRow, RealismRow, UpvotePair, UpvoteRow
from bot.train import loop, tfhub_bert
from bot.train.upvote_tfhub_bert import Classes
from bot.weights import bases as weight_bases
from bot.weights import cards, pull, serving
from tests import tiny

# one reply per karma class: below 1, 1, 2 to 4, above 4
REPLIES = {-3: "normal minutes boil essay", 1: "train journey light", 3: "keeper lighthouse saturdays", 30: "short and funny and kind"}
BAD, GOOD = REPLIES[-3], REPLIES[30]
TEXTS = [
    ("Which book made you laugh?", "Try the lighthouse one!"),
    ("Élan VITAL naïve 书 café [SEP] [CLS]", "x" * 120 + " [PAD] <|endoftext|> don't 10,000"),
    ("book " * 300, "funny " * 200),
    ("", ""),
    ("a\u200bb\tc\u0007 I" + "́", "— «so» … ok?"),
]
hub = tfhub_bert.import_hub()
MINILM = ROOT / "models" / "base" / "minilm-l6"


@pytest.fixture(scope="module", autouse=True)
def eager() -> None:
    tiny.eager_again()  # other test modules import gpt_2_simple


@pytest.fixture(scope="module")
def bases(eager: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tiny: a BERT; tiny-tfhub: its export; still and still-tfhub: the same without dropout."""
    folder = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_bases, "BASE_DIR", folder)
        for name, dropout in (("tiny", 0.1), ("still", 0.0)):
            source = tiny.encoder(tmp_path_factory.mktemp(name), head=False)
            sizes = json.loads((source / "config.json").read_text()) | {
                "hidden_dropout_prob": dropout,
                "attention_probs_dropout_prob": dropout,
            }
            (source / "config.json").write_text(json.dumps(sizes))
            pull.pull(name, source)
            to_tfhub.export(name)
    return folder


@pytest.fixture(autouse=True)
def base_dir(bases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_bases, "BASE_DIR", bases)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows in which the words of a reply determine its label and its karma."""
    folder = tmp_path_factory.mktemp("data")
    for each, count in (("train", 96), ("val", 16), ("test", 24)):
        threads = tiny.numbers_of_rankers(each, count)
        ids = [(f"t3_{each}{n}", f"t1_{each}{n}", f"t1_r{each}{n}", "sandbox_books", f"Which book, reader {n}?") for n in threads]
        write_realism(folder, each, [RealismRow(*row, GOOD if n % 2 else BAD, n % 2, "" if n % 2 else "g") for n, row in enumerate(ids)])
        karma = list(REPLIES.items())
        upvotes = [UpvoteRow(*row, karma[n % 4][1], karma[n % 4][0], 1_700_000_000 if n % 2 else None) for n, row in enumerate(ids)]
        schema.write_rows(folder / f"upvote_{each}.csv", UpvoteRow, upvotes)
        siblings = [UpvotePair(t, c, r, f"{r}x", s, body, GOOD, BAD, 30, 0.5) for t, c, r, s, body in ids]
        schema.write_rows(folder / f"upvote_pairs_{each}.csv", UpvotePair, siblings)
    return folder


def write_realism(folder: Path, each: str, rows: list[RealismRow]) -> None:
    schema.write_rows(folder / f"realism_{each}.csv", RealismRow, rows)


def train(kind: str, data: Path, out: Path, **changes: Any) -> None:
    options = {"base": "tiny-tfhub", "rows": 96, "epochs": 8, "batch_tokens": 256, "learning_rate": 5e-3, "seed": 1}
    tiny.train(kind, "tfhub-bert", data=data, out=out, **(options | changes))


@pytest.fixture(scope="module")
def realism(data: Path, bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("realism")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_bases, "BASE_DIR", bases)
        train("realism", data, out)
    return out


# --- the export ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["tiny", pytest.param("minilm", marks=pytest.mark.skipif(not MINILM.exists(), reason="python run_bot.py models pull minilm-l6"))],
)
def test_export_gives_the_same_outputs_as_transformers(bases: Path, name: str) -> None:
    """For several lengths, with and without padding, with tokens in both segments."""
    if name == "minilm":
        pull.pull(name, MINILM)
        to_tfhub.export(name)
    layer = hub.KerasLayer(str(bases / f"{name}-tfhub"), trainable=True)
    bert = BertModel.from_pretrained(bases / name).eval()
    rng = np.random.default_rng(0)
    for batch, time in ((1, 3), (4, 17), (3, 128)):
        ids = rng.integers(5, bert.config.vocab_size, (batch, time)).astype(np.int32)
        lengths = rng.integers(2, time + 1, batch)
        lengths[0] = time
        mask = (np.arange(time) < lengths[:, None]).astype(np.int32)
        types = (np.arange(time) >= lengths[:, None] // 2).astype(np.int32) * mask
        exported = layer(dict(zip(INPUTS, map(tf.constant, (ids * mask, mask, types)), strict=True)))
        with torch.inference_mode():
            inputs = [torch.tensor(each).long() for each in (ids * mask, mask, types)]
            expected = bert(input_ids=inputs[0], attention_mask=inputs[1], token_type_ids=inputs[2], output_hidden_states=True)
        assert sorted(exported) == ["default", "encoder_outputs", "pooled_output", "sequence_output"]
        largest = max(hidden.abs().max().item() for hidden in expected.hidden_states)
        bound = tiny.rounding(bert.config.num_hidden_layers, bert.config.intermediate_size, largest)
        assert np.abs(exported["pooled_output"].numpy() - expected.pooler_output.numpy()).max() < bound
        assert np.array_equal(exported["default"], exported["pooled_output"])
        is_token = mask.astype(bool)
        assert np.abs(exported["sequence_output"].numpy() - expected.last_hidden_state.numpy())[is_token].max() < bound
        assert len(exported["encoder_outputs"]) == bert.config.num_hidden_layers
        for one, two in zip(exported["encoder_outputs"], expected.hidden_states[1:], strict=True):
            assert np.abs(one.numpy() - two.numpy())[is_token].max() < bound
        assert np.abs(expected.pooler_output.numpy()).max() > 0.1


@pytest.mark.usefixtures("cold")
def test_help_and_errors_of_export_do_not_wait_for_tensorflow(tmp_path: Path) -> None:
    program = "import sys; from bot.__main__ import main\ntry: main('run_bot.py')\nfinally: print('tensorflow' in sys.modules)"
    for words in (["--help"], ["no-such-base"]):
        done = subprocess.run(
            [sys.executable, "-c", program, "models", "export-tfhub", *words],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.splitlines()[-1] == "False" and len(done.stderr.splitlines()) == (words != ["--help"])


def test_export_is_trainable_and_contains_its_vocabulary(bases: Path) -> None:
    layer = hub.KerasLayer(str(bases / "tiny-tfhub"), trainable=True)
    assert len(layer.trainable_weights) == len(list(BertModel.from_pretrained(bases / "tiny").parameters()))
    inputs = {name: tf.ones([2, 8], tf.int32) for name in INPUTS}
    first, second, with_dropout = (layer(inputs, training=training)["pooled_output"].numpy() for training in (False, False, True))
    assert np.array_equal(first, second) and np.abs(first - with_dropout).max() > 1e-3
    tokenizer = AutoTokenizer.from_pretrained(bases / "tiny")
    lines = Path(layer.resolved_object.vocab_file.asset_path.numpy().decode()).read_text(encoding="utf-8").splitlines()
    assert lines == tokenizer.convert_ids_to_tokens(range(len(tokenizer))) and layer.resolved_object.do_lower_case.numpy()


def test_export_is_listed_as_a_base_and_can_be_repeated(bases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = weight_bases.read_base("tiny-tfhub")
    assert base and base["kind"] == "tfhub" and base["source"] == "export-tfhub tiny"
    assert weight_bases.base_sha256("tiny-tfhub") == weight_bases.base_sha256("tiny") and "assets/vocab.txt" in base["files"]
    assert weight_bases.base_path("tiny-tfhub") == bases / "tiny-tfhub"
    to_tfhub.export("tiny")
    Console(width=140).print(weight_bases.table())
    assert "export-tfhub tiny" in capsys.readouterr().out
    assert not [path.name for path in bases.iterdir() if path.name.startswith(".tiny-tfhub.")]


def test_a_failed_export_keeps_the_previous_one(bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="contains files that this project did not write"):
        to_tfhub.export("tiny", tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="models pull nothing"):
        to_tfhub.export("nothing")
    before = (bases / "tiny-tfhub" / "base.json").read_text()
    monkeypatch.setattr(tf.saved_model, "save", lambda root, folder: (Path(folder) / "half").mkdir() or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_tfhub.export("tiny")
    assert (bases / "tiny-tfhub" / "base.json").read_text() == before and weight_bases.read_base("tiny-tfhub")


def test_only_a_complete_bert_is_exported(bases: Path, tmp_path: Path) -> None:
    config = json.loads((bases / "tiny" / "config.json").read_text())
    for change, message in (
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"hidden_act": "silu"}, "hidden_act 'silu'"),
        ({"type_vocab_size": 1}, "type_vocab_size 1, .* a pair needs two segments and 152 positions"),
        ({"max_position_embeddings": 151}, "max_position_embeddings 151; a pair needs two segments and 152 positions"),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(UserError, match=message):
            to_tfhub.read_config(tmp_path)
    valid = to_tfhub.read_config(bases / "tiny")
    with pytest.raises(UserError, match="encoder.layer.2.attention.self.query.weight is missing, expected"):
        to_tfhub.read_weights(bases / "tiny", valid | {"num_hidden_layers": 3})
    with pytest.raises(UserError, match="is \\[512, 32\\], expected \\[64, 32\\]"):
        to_tfhub.read_weights(bases / "tiny", valid | {"max_position_embeddings": 64})
    with pytest.raises(UserError, match="no vocabulary, neither tokenizer.json nor vocab.txt"):
        to_tfhub.read_vocabulary(tmp_path)


# --- tokens -------------------------------------------------------------------------------------------------------------


def test_tokens_are_the_same_as_in_the_transformers_ranker(bases: Path) -> None:
    wordpieces = Wordpieces(tf.saved_model.load(str(bases / "tiny-tfhub")), "tiny-tfhub")
    tokenizer = AutoTokenizer.from_pretrained(bases / "tiny")
    encoded = wordpieces.encode(TEXTS)
    assert encoded == [encode_pair(tokenizer, *pair) for pair in TEXTS]
    assert len(encoded[2][0]) == 147 and sum(encoded[2][1]) == 81
    inputs = inputs_of(encoded[:2], padding=0)
    width = inputs["input_word_ids"].shape[1]
    assert width % 8 == 0 and width - len(max(encoded[:2], key=lambda pair: len(pair[0]))[0]) < 8
    assert inputs["input_mask"].sum(axis=1).tolist() == [len(ids) for ids, _ in encoded[:2]]


# --- training and scoring -----------------------------------------------------------------------------------------------


def test_realism_ranker_learns(realism: Path, data: Path) -> None:
    ranker = rankers.load("tfhub-bert", realism)
    scores = ranker.score([("Which book, reader 99?", GOOD), ("Which book, reader 99?", BAD)])
    assert scores[0] > 0.8 and scores[1] < 0.2
    card = cards.read_card(realism)
    assert (card.kind, card.base, card.format) == ("realism", "tiny-tfhub", "full")
    assert card.base_sha256 == weight_bases.base_sha256("tiny") and card.settings["classes"] == 2
    assert card.data["realism_train.csv"] == {"rows": 96, "sha256": files.sha256_of(data / "realism_train.csv")}
    assert {path.name for path in realism.iterdir()} >= {"saved_model.pb", "variables", "assets", "model.json", "losses.csv"}
    assert not list(realism.glob("checkpoint.*")) and str(data) not in (realism / "model.json").read_text()
    losses = schema.read_rows(realism / "losses.csv", LossRow)
    measured = [row for row in losses if row.val_loss is not None]
    assert [row.step for row in losses] == list(range(1, len(losses) + 1)) and 4 <= len(measured) < len(losses)
    assert measured[-1] is losses[-1] and measured[-1].val_loss < 0.1
    # The loss of a single batch is noisy because of dropout, so take the mean of the last quarter.
    last_quarter = [row.train_loss for row in losses[-len(losses) // 4 :]]
    assert np.mean(last_quarter) < losses[0].train_loss / 2


@pytest.mark.parametrize("classes", list(Classes))
def test_upvote_ranker_learns_classes_and_is_evaluated_on_pairs_too(
    data: Path, tmp_path: Path, classes: Classes, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("upvote", data, tmp_path / "upvote", classes=classes, epochs=16)
    scores = rankers.load("tfhub-bert", tmp_path / "upvote").score([("Which book, reader 99?", reply) for reply in REPLIES.values()])
    expected = [0, 1 / 3, 2 / 3, 1] if classes is Classes.four else [0, 0, 1, 1]
    assert scores == pytest.approx(expected, abs=0.2)
    monkeypatch.setattr(score_files, "start", tiny.start_in_process)
    evaluate.main(data=data, out=tmp_path / "evaluation", one=tmp_path / "upvote")
    metrics = cards.read_card(tmp_path / "upvote").metrics
    assert metrics["gap_20"]["ranker"]["pairwise_accuracy"] == [1.0, 1.0, 1.0] and "earlier_wins" in metrics["all"]
    by_class = metrics[f"{classes.value}_classes"]
    count = int(classes.value)
    assert by_class["ranker"]["macro_f1"][0] == 1.0 and np.array_equal(by_class["ranker"]["confusion"], np.eye(count) * 24 / count)
    assert by_class["majority"]["accuracy"][0] == 1 / count and by_class["majority"]["macro_recall"][0] == 1 / count


def test_the_bots_own_replies_are_trained_on(data: Path, tmp_path: Path) -> None:
    own = Harvested("t1_o", "t1_q", "t3_b", "books", "Which book?", "Dune.", 25.0, 9, 0, False)
    schema.write_rows(tmp_path / "harvest.csv", Harvested, [replace(own, reply_id=f"t1_o{n}") for n in range(4)])
    train("upvote", data, tmp_path / "upvote", epochs=1, rows=1000, harvest=tmp_path / "harvest.csv")
    settings = cards.read_card(tmp_path / "upvote").settings
    assert (settings["rows"], settings["own_rows"]) == (96 + 4, 4)


def test_a_saved_model_gives_the_same_scores_and_one_graph_serves_all_shapes(bases: Path, tmp_path: Path) -> None:
    layer, width = tfhub_bert.load_encoder(bases / "tiny-tfhub", "tiny-tfhub")
    model = tfhub_bert.Classifier(layer, width, 4, 3)
    model.weight.assign_add(tf.ones_like(model.weight) * [[0.0, 0.5, -0.5, 0.1]])
    model.save(tmp_path)
    ranker = TFHubBert(tf.saved_model.load(str(tmp_path)), "saved")
    inputs = {name: tf.constant(value) for name, value in inputs_of(ranker.wordpieces.encode(TEXTS), 0).items()}
    before = tf.nn.softmax(model.logits(inputs, False)).numpy()
    bound = tiny.rounding()  # the same operations in another graph
    assert np.abs(ranker.probabilities(TEXTS) - before).max() < bound < before.std() / 100
    assert ranker.score(TEXTS) == pytest.approx((before @ [0, 1 / 3, 2 / 3, 1]).tolist(), abs=bound)
    assert len(ranker.saved.__call__.concrete_functions) == 1


def fit(bases: Path, checkpoint: Path, epochs: int = 2) -> tuple[Any, list[LossRow]]:
    layer, width = tfhub_bert.load_encoder(bases / "still-tfhub", "still-tfhub")
    pairs = Wordpieces(layer.resolved_object, "").encode([("Which book?", reply) for reply in REPLIES.values()] * 4)
    labels = [0, 1, 2, 3] * 4
    batches = tfhub_bert.Batches(pairs, labels, 0, 96, epochs, 1)
    model = tfhub_bert.Classifier(layer, width, 4, 1)
    return model, tfhub_bert.fit(model, batches, [batches[0], batches[1]], 1e-3, checkpoint, {"epochs": epochs}).rows()


def test_an_interrupted_run_resumes_with_the_same_result(bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(tfhub_bert, "DROPOUT", 0.0)
    expected, expected_losses = fit(bases, tmp_path / "uninterrupted.npz")
    original = tfhub_bert.Batches.__getitem__

    def interrupt_at_step_4(self: Any, index: int) -> Any:
        if index == 3:
            raise KeyboardInterrupt
        return original(self, index)

    checkpoint = tmp_path / "resumed.npz"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tfhub_bert.Batches, "__getitem__", interrupt_at_step_4)
        fit(bases, checkpoint)
    with pytest.raises(UserError, match="belongs to a run with other settings"):
        fit(bases, checkpoint, epochs=3)
    resumed, resumed_losses = fit(bases, checkpoint)
    assert len(expected_losses) == 6 and [row.step for row in resumed_losses] == [row.step for row in expected_losses]
    for one, two in zip(expected_losses, resumed_losses, strict=True):
        assert one.train_loss == pytest.approx(two.train_loss, abs=1e-4) and (one.val_loss is None) == (two.val_loss is None)
    for one, two in zip(expected.variables, resumed.variables, strict=True):
        assert np.abs(one.numpy() - two.numpy()).max() < 1e-3
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(UserError, match="resumed.npz: cannot be read .*; delete it to start again"):
        fit(bases, checkpoint)


@pytest.mark.usefixtures("cold")
def test_this_back_end_never_loads_pytorch(realism: Path, data: Path, bases: Path, tmp_path: Path) -> None:
    """Scoring, exporting and training, one after the other in one process."""
    pairs = [("Which book, reader 99?", GOOD), ("Which book, reader 99?", BAD)]
    schema.write_table(tmp_path / "in.csv", ["comment", "reply"], [{"comment": comment, "reply": reply} for comment, reply in pairs])
    program = f"""
import sys
from pathlib import Path
from bot.export import to_tfhub
from bot.rankers import scoring
from bot.train import command
folder, data = Path({str(tmp_path)!r}), Path({str(data)!r})
scoring.main(folder / "in.csv", folder / "out.csv", None)
to_tfhub.export_tfhub_command("tiny", folder / "export")
options = dict(rows=8, epochs=1, batch_tokens=256)
command.realism(backend="tfhub-bert", base=str(folder / "export"), data=data, out=folder / "m", evaluate=False, **options)
print([name for name in ("torch", "transformers") if name in sys.modules], "tensorflow" in sys.modules)
"""
    environment = {
        **os.environ,
        "BOT_BASES": str(bases),
        "BOT_RANK__BACKEND": "tfhub-bert",
        "BOT_RANK__REALISM": str(realism),
        "BOT_RANK__UPVOTE": "",
        "BOT_RANK__RELEVANCE": "",
        "BOT_RANK__CHOICE": "",
        "BOT_RANK__WEIGHTS__RELEVANCE": "0",
        "BOT_RANK__WEIGHTS__CHOICE": "0",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[] True"
    _, rows = schema.read_table(tmp_path / "out.csv")
    expected = rankers.load("tfhub-bert", realism).score(pairs)
    assert [float(row["realism_score"]) for row in rows] == pytest.approx(expected, abs=1e-5)
    assert expected[0] > 0.8 and expected[1] < 0.2
    assert rows[0]["upvote_score"] == ""
    assert cards.read_card(tmp_path / "m").base == "export"


# --- other encoders -----------------------------------------------------------------------------------------------------


# Independent of our export: saved by Keras with the names and outputs of TensorFlow Hub's BERTs. It runs in its own process, because
# importing gpt_2_simple changes Keras's behaviour.
PUBLISHED = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import tensorflow as tf
from tf_keras import Input, Model, layers
inputs = {name: Input([None], dtype=tf.int32, name=name) for name in ("input_word_ids", "input_mask", "input_type_ids")}
words = layers.Embedding(400, 16)(inputs["input_word_ids"]) + layers.Embedding(2, 16)(inputs["input_type_ids"])
mask = tf.cast(inputs["input_mask"], tf.float32)[..., None]
sequence = layers.Dropout(0.1)(layers.Dense(16, activation="tanh")(words)) * mask
pooled = layers.Dense(16, activation="tanh")(tf.reduce_sum(sequence, axis=1))
outputs = {"pooled_output": pooled, "default": pooled, "sequence_output": sequence, "encoder_outputs": [sequence]}
model = Model(inputs, outputs)
model.vocab_file = tf.saved_model.Asset(sys.argv[2])
model.do_lower_case = tf.Variable(True, trainable=False)
model.save(sys.argv[1], include_optimizer=False, save_format="tf")
"""


def test_an_encoder_from_a_url_is_only_needed_for_training(
    data: Path, bases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFHUB_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "published"
    vocabulary = bases / "tiny-tfhub" / "assets" / "vocab.txt"
    subprocess.run([sys.executable, "-c", PUBLISHED, str(folder), str(vocabulary)], check=True, capture_output=True)
    (tmp_path / "served").mkdir()
    with tarfile.open(tmp_path / "served" / "bert.tar.gz", "w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        train("realism", data, tmp_path / "out", base=f"{url}/bert.tar.gz", epochs=4, learning_rate=1e-2)
        for each in (tmp_path / "cache").rglob("saved_model.pb"):  # a temporary folder that the system emptied
            each.unlink()
        with pytest.raises(UserError, match=r"/bert.tar.gz: its copy in TensorFlow Hub's cache is incomplete; delete .* and try again"):
            train("realism", data, tmp_path / "out2", base=f"{url}/bert.tar.gz")
        with pytest.raises(UserError, match=r"/none.tar.gz: encoder not available \(HTTP Error 404.*check the network"):
            train("realism", data, tmp_path / "out2", base=f"{url}/none.tar.gz")
        server.shutdown()
    with pytest.raises(UserError, match=r"/bert2.tar.gz: encoder not available .*refused.*; check the network"):
        train("realism", data, tmp_path / "out2", base=f"{url}/bert2.tar.gz")
    shutil.rmtree(tmp_path / "cache")
    shutil.rmtree(folder)
    card = cards.read_card(tmp_path / "out")
    assert card.base == f"{url}/bert.tar.gz"
    scores = rankers.load("tfhub-bert", tmp_path / "out").score([("Which book?", GOOD), ("Which book?", BAD)])
    assert scores[0] - scores[1] > 0.3


def test_a_handle_that_is_not_an_encoder_is_an_error(data: Path, bases: Path, tmp_path: Path) -> None:
    for handle, message in (
        ("nothing-tfhub", "nothing-tfhub: not a complete base; run `python run_bot.py models export-tfhub nothing`"),
        ("tiny", "tiny: a base of kind encoder, not tfhub; run `python run_bot.py models export-tfhub tiny`"),
        (str(tmp_path / "nowhere"), "nowhere: encoder not available .*; check the path"),
        (str(tmp_path), "not a SavedModel .saved_model.pb is missing"),
    ):
        with pytest.raises(UserError, match=message):
            train("realism", data, tmp_path / "out", base=handle)
    assert not (tmp_path / "out").exists()


def test_a_saved_model_that_is_not_a_bert_is_an_error(data: Path, tmp_path: Path) -> None:
    dictionary = {name: tf.TensorSpec([None, None], tf.int32) for name in INPUTS}
    weight = tf.Variable([[1.0]])

    def save(name: str, function: Any, spec: Any) -> str:
        root = tf.train.Checkpoint(weight=weight)
        root.trainable_variables = root.variables = [weight]
        if function is not None:
            root.__call__ = tf.function(function, input_signature=[spec], autograph=False)
        tf.saved_model.save(root, str(tmp_path / name))
        return str(tmp_path / name)

    def pooled(inputs: Any) -> Any:
        return {"pooled_output": tf.cast(inputs["input_mask"], tf.float32)[:, :1] @ weight}

    expected = "expected a BERT with inputs input_word_ids, input_mask, input_type_ids and output pooled_output"
    for handle, message in (
        (save("uncallable", None, None), f"not usable as an encoder .*; {expected}"),
        (
            save("sentences", lambda text: {"pooled_output": tf.strings.length(text)}, tf.TensorSpec([None], tf.string)),
            f"encoder .*; {expected}",
        ),
        (save("tensor", lambda inputs: pooled(inputs)["pooled_output"], dictionary), f"its output is .*; {expected}"),
        (save("unnamed", lambda inputs: {"logits": pooled(inputs)["pooled_output"]}, dictionary), f"its output is logits; {expected}"),
        (save("wordless", pooled, dictionary), r"wordless: no vocabulary \(vocab_file and do_lower_case\)"),
    ):
        with pytest.raises(UserError, match=message):
            train("realism", data, tmp_path / "out", base=handle)


# --- errors -------------------------------------------------------------------------------------------------------------


def test_missing_rows_or_classes_are_an_error(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    write_realism(tmp_path / "data", "val", [])
    with pytest.raises(UserError, match="realism_val.csv: no rows; prepare more data"):
        train("realism", tmp_path / "data", tmp_path / "out")
    human = [row for row in schema.read_rows(data / "realism_train.csv", RealismRow) if row.label]
    write_realism(tmp_path / "data", "val", human)
    write_realism(tmp_path / "data", "train", human)
    with pytest.raises(UserError, match="realism_train.csv: none of the 48 training rows is of class 0; raise --rows"):
        train("realism", tmp_path / "data", tmp_path / "out")


def test_out_of_memory_names_the_option_to_lower(realism: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[9,9]\nlong story")

    ranker = rankers.load("tfhub-bert", realism)
    monkeypatch.setattr(ranker, "saved", type("Full", (), {"__call__": full, "classes": ranker.saved.classes})())  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"out of memory \(OOM when .*\); lower rank.batch_size \(7 now\)$"):
        ranker.score(TEXTS, 7)
    monkeypatch.setattr(tfhub_bert.Classifier, "logits", full)
    with pytest.raises(UserError, match=r"out of memory \(OOM when .*\); lower --batch-tokens \(256 now\)$"):
        train("realism", data, tmp_path / "out")


@pytest.mark.parametrize(
    "damage",
    ["variables/variables.data-00000-of-00001", "variables/variables.index", "saved_model.pb", "assets/vocab.txt", "model.json"],
)
def test_a_damaged_model_folder_is_an_error(realism: Path, tmp_path: Path, damage: str) -> None:
    shutil.copytree(realism, tmp_path / "m")
    before = serving.fingerprint(tmp_path / "m")
    assert before == serving.fingerprint(realism)
    file = tmp_path / "m" / damage
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert serving.fingerprint(tmp_path / "m") != before
    with pytest.raises(UserError) as truncated:
        rankers.load("tfhub-bert", tmp_path / "m")
    file.unlink()
    with pytest.raises(UserError) as missing:
        rankers.load("tfhub-bert", tmp_path / "m")
    for error in (truncated, missing):
        assert (
            str(tmp_path / "m") in str(error.value) and re.search("train (it|the model)", str(error.value)) and "\n" not in str(error.value)
        )


def test_a_model_of_the_other_back_end_is_an_error(realism: Path, bases: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match='a model of back end transformers; set rank.backend = "transformers"'):
        rankers.load("tfhub-bert", tmp_path)
    with pytest.raises(UserError, match='a model of back end tfhub-bert; set rank.backend = "tfhub-bert"'):
        rankers.load("transformers", realism)
    with pytest.raises(UserError, match="contains no model"):
        rankers.load("tfhub-bert", bases / "tiny-tfhub")
