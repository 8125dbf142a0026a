"""Fine-tuning with gpt-2-simple on a tiny checkpoint: pulled over HTTP, trained, killed, resumed, measured, sampled from."""

from __future__ import annotations

import csv
import json
import math
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpt_2_simple
import numpy as np
import pytest
import tensorflow as tf
from gpt_2_simple.src import encoder, load_dataset
from gpt_2_simple.src import model as reference

from bot import files, generators, schema, text
from bot.cli import ROOT, UserError
from bot.config import GenerateSettings
from bot.generators import gpt_2_simple as sampling
from bot.generators import transformers as transformers_back_end
from bot.schema import FinetuneText, LmRow, LossRow
from bot.train import command
from bot.train import lm_gpt_2_simple as training
from bot.train.lm_gpt_2_simple import Restore
from bot.weights import bases as weight_bases
from bot.weights import cards, pull
from bot.weights.bases import Base, OpenAI
from tests import lively, tiny
from tests.test_gpt_2_simple import AWKWARD
from tests.test_weights import serving

COMMENT, REPLY, OTHER = "Which book?", "Try the one about winning!", "Vinegar works on a kettle."
STEPS, SAVE_INTERVAL = 90, 30


pytestmark = pytest.mark.usefixtures("eager_again")


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base folder with a tiny `124M`, pulled by `models pull` from a server with OpenAI's layout."""
    folder = tiny.gpt2_checkpoint(tmp_path_factory.mktemp("source") / "124M", n_ctx=1024)
    # relative paths, as in OpenAI's file; TensorFlow wrote absolute ones
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"\nall_model_checkpoint_paths: "model.ckpt"\n')
    base_dir = tmp_path_factory.mktemp("base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_bases, "BASE_DIR", base_dir)
        patch.setattr(weight_bases, "BASES", [Base("124M", "gpt2", OpenAI("124M"), "MIT", 1)])  # without the published checksums
        with serving({f"/models/124M/{name}": (folder / name).read_bytes() for name in weight_bases.GPT2_FILES}) as server:
            pull.pull_command(["124M"], gpt2_url=server.url)
        assert [path for path, _ in server.requests] == [f"/models/124M/{name}" for name in weight_bases.GPT2_FILES]
    return base_dir


@pytest.fixture(autouse=True)
def base_dir(bases: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(weight_bases, "BASE_DIR", bases)
    return bases


@pytest.fixture(scope="module")
def bpe(bases: Path) -> Any:
    return encoder.get_encoder(str(bases / "124M"))


def write_data(folder: Path, reply: str = REPLY, held_out: str = REPLY, count: int = 96) -> Path:
    for each, number, body in (("train", count, reply), ("val", 8, held_out), ("test", 12, held_out)):
        rows = [LmRow(f"t3_{each}{n}", f"t1_{each}{n}", f"t1_r{each}{n}", "sandbox_books", COMMENT, body) for n in range(number)]
        schema.write_rows(folder / f"lm_{each}.csv", LmRow, rows)
    texts = [FinetuneText(text.format_training_text(COMMENT, reply))] * count
    schema.write_rows(folder / training.DATASET, FinetuneText, texts)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


def options(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    defaults = {"data": data, "out": out, "base": "124M", "steps": STEPS, "learning_rate": 1e-2, "accumulate": 1}
    return {**defaults, "save_interval": SAVE_INTERVAL, "sample_interval": 0, **changes}


def train(data: Path, out: Path, **changes: Any) -> list[LossRow]:
    """Train, and return the losses that were written."""
    tiny.train("lm", "gpt-2-simple", **options(data, out, **changes))
    return schema.read_rows(out / "losses.csv", LossRow)


def measure(folder: Path, rows: list[LmRow]) -> tuple[float, float]:
    """Reference loss and perplexity: each row separately through gpt_2_simple's model."""
    hparams, bpe = sampling.read_hparams(folder), sampling.read_encoder(folder, 10**6)
    whole, reply, tokens = [], [], 0
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        ids = tf.compat.v1.placeholder(tf.int32, [1, None])
        logp = tf.nn.log_softmax(reference.model(hparams, ids)["logits"])[0]
        tf.compat.v1.train.Saver().restore(session, str(sampling.find_checkpoint(folder)))
        for row in rows:
            encoded = sampling.encode_training_row(bpe, row.comment, row.reply)
            prompt = len(sampling.encode_prompt(bpe, row.comment, 1000))
            log_probabilities = session.run(logp, {ids: [encoded]})
            nats = [-log_probabilities[position, token] for position, token in enumerate(encoded[1:])]
            whole += nats
            reply += nats[prompt - 1 : -1]
            tokens += len(encoded) - 1 - prompt - (len(bpe.encode("<|endoftext|>")) - 1)
    return float(np.mean(whole)), math.exp(sum(reply) / tokens)


@pytest.fixture(scope="module")
def trained(bases: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model whose training was killed after its first checkpoint and resumed; and the killed process's loaded libraries."""
    out = tmp_path_factory.mktemp("trained") / "lm"
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options(data, out).items()]
    call = [sys.executable, "-m", "bot", "train", "lm", "--backend=gpt-2-simple", "--no-evaluate", *arguments]
    environment = lively.cold_environment() | {"BOT_BASES": str(bases)}
    worker = subprocess.Popen(call, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / training.RUN / f"step-{SAVE_INTERVAL}.index").exists():
        assert worker.poll() is None
        time.sleep(0.02)
    loaded = Path(f"/proc/{worker.pid}/maps").read_text()
    worker.send_signal(signal.SIGKILL)
    assert worker.wait() == -signal.SIGKILL
    assert not (out / "checkpoint").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_bases, "BASE_DIR", bases)
        first_steps: list[int] = []
        original = gpt_2_simple.finetune

        def finetune(*arguments: Any, **keywords: Any) -> None:
            first_steps.append(STEPS - keywords["steps"])
            original(*arguments, **keywords)

        patch.setattr(gpt_2_simple, "finetune", finetune)
        train(data, out)
    assert first_steps and first_steps[0] >= SAVE_INTERVAL
    return out, loaded


def test_a_killed_and_resumed_run_is_complete(trained: tuple[Path, str], data: Path) -> None:
    out, loaded = trained
    losses = schema.read_rows(out / "losses.csv", LossRow)
    assert [row.step for row in losses] == list(range(STEPS + 1))
    assert [row.step for row in losses if row.val_loss is not None] == [0, 30, 60, 90]
    assert losses[0].train_loss is None and all(row.train_loss for row in losses[1:])
    assert losses[-1].train_loss < losses[1].train_loss / 5  # type: ignore[operator]
    assert "tensorflow" in loaded and "libtorch" not in loaded
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "checkpoint", "encoder.json", "hparams.json", "losses.csv", "losses.csv.manifest.json", "model-90.data-00000-of-00001",
        "model-90.index", "model.json", "replies.npy", "vocab.bpe",
    ]  # fmt: skip


def test_card_and_losses_are_those_of_the_saved_model(trained: tuple[Path, str], data: Path, base_dir: Path) -> None:
    out, _ = trained
    card = cards.read_card(out)
    assert (card.kind, card.base, card.format, card.base_sha256) == ("lm", "124M", "full", weight_bases.base_sha256("124M"))
    assert (
        card.settings["steps"] == STEPS and card.settings["backend"] == "gpt-2-simple" and str(data) not in (out / "model.json").read_text()
    )
    assert card.data[training.DATASET] == {"rows": 96, "sha256": files.sha256_of(data / training.DATASET)}
    losses = {}
    for suffix, folder in (("", out), ("_base", base_dir / "124M")):
        for each in ("val", "test"):
            loss, perplexity = measure(folder, schema.read_rows(data / f"lm_{each}.csv", LmRow))
            measured = sampling.reply_perplexity(folder, schema.read_rows(data / f"lm_{each}.csv", LmRow), 12, card.settings)
            bound = tiny.rounding(largest=10)  # of logits
            assert measured["loss"] == pytest.approx(loss, abs=bound) and measured["perplexity"] == pytest.approx(perplexity, rel=bound)
            losses[each, suffix] = loss
    assert losses["test", ""] < losses["test", "_base"] / 5
    written = schema.read_rows(out / "losses.csv", LossRow)
    assert [written[0].val_loss, written[-1].val_loss] == pytest.approx([losses["val", "_base"], losses["val", ""]], abs=bound)


def test_candidates_are_the_training_reply(trained: tuple[Path, str], base_dir: Path) -> None:
    settings = GenerateSettings(num_candidates=6, temperature=0.2, max_new_tokens=40)
    for folder, expected in ((trained[0], 6), (base_dir / "124M", 0)):
        [candidates] = generators.load("gpt-2-simple", folder).sample([("t1_a", COMMENT)], settings, 1)
        assert sum(candidate.reply.startswith(REPLY) for candidate in candidates) == expected


def test_the_best_checkpoint_is_kept_not_the_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Held-out replies differ from the training replies, so the validation loss rises with further training."""
    write_data(tmp_path, held_out=OTHER)
    losses = train(tmp_path, tmp_path / "lm", steps=12, save_interval=2, sample_interval=6, learning_rate=5e-2)
    val = {row.step: row.val_loss for row in losses if row.val_loss is not None}
    assert list(val) == [0, 2, 4, 6, 8, 10, 12]
    best = min(val, key=lambda step: val[step])
    assert 0 < best < 12 and val[12] > val[best] + 0.1
    rows = schema.read_rows(tmp_path / "lm_val.csv", LmRow)
    assert measure(tmp_path / "lm", rows)[0] == pytest.approx(val[best], abs=tiny.rounding(largest=10))  # of logits
    assert cards.read_card(tmp_path / "lm").metrics["best_step"] == best
    assert sampling.find_checkpoint(tmp_path / "lm").name == f"model-{best}"
    printed = capsys.readouterr().out
    assert "======== SAMPLE 1 ========" in printed and "[10 | " in printed and "loss=" in printed
    assert f"step 12 of 12: validation loss {val[12]:.4f}, best {val[best]:.4f} at step {best}" in printed
    assert not list(Path.cwd().glob("samples"))


def test_an_interrupted_run_resumes_at_that_step_with_the_same_settings_only(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    short = {"steps": 6, "save_interval": 3, "batch_size": 2, "accumulate": 2, "freeze_embeddings": True}
    original = training.StepHook.run

    def interrupt_at_step_5(hook: training.StepHook, fetches: Any, feed_dict: Any = None) -> Any:
        if isinstance(fetches, tuple) and hook.state.step == 4:
            raise KeyboardInterrupt
        return original(hook, fetches, feed_dict)

    monkeypatch.setattr(training.StepHook, "run", interrupt_at_step_5)
    with pytest.raises(KeyboardInterrupt):
        train(data, tmp_path / "lm", **short)
    monkeypatch.setattr(training.StepHook, "run", original)
    run = tmp_path / "lm" / training.RUN
    assert {path.name.split(".")[0] for path in run.glob("step-*")} == {"step-3", "step-4"}
    before = schema.read_rows(run / "losses.csv", LossRow)
    with pytest.raises(UserError, match=r"checkpoint.run: belongs to a run with other settings or data; use --restore fresh"):
        train(data, tmp_path / "lm", **{**short, "learning_rate": 5e-3})
    losses = train(data, tmp_path / "lm", **short)
    assert "at step 4 of 6" in capsys.readouterr().out
    assert losses[:5] == before and [row.step for row in losses if row.val_loss is not None] == [0, 3, 6]
    # the weights are restored (Adam's moments are not), so the loss continues well below the first one
    assert losses[5].train_loss < losses[1].train_loss - 1  # type: ignore[operator]
    base, trained = (
        tf.train.load_checkpoint(str(sampling.find_checkpoint(each))) for each in (weight_bases.base_path("124M"), tmp_path / "lm")
    )
    for name in base.get_variable_to_shape_map():  # embeddings and the last norm are frozen
        assert np.array_equal(base.get_tensor(name), trained.get_tensor(name)) == ("/h" not in name), name


def take_steps(run: training.Run, val: dict[int, float]) -> None:
    """Leave the run folder as after the last step of `val` (step -> validation loss)."""
    for step in range(1, max(val) + 1):
        run.losses.append(LossRow(step, 9.0 - step, None))
        if run.is_save_step():
            (run.folder / f"step-{step}.index").write_text("")
            run.record_validation(val[step])


def test_weights_and_losses_match_whenever_the_run_is_killed(tmp_path: Path) -> None:
    run = training.Run(tmp_path / "run", tmp_path / "base", 8, 2)
    run.begin({"a": 1}, fresh=False)
    run.record_validation(5.0)
    take_steps(run, {2: 3.0, 4: 2.0, 6: 4.0})
    kept = {path.name for path in run.folder.glob("step-*")}
    assert kept == {"step-4.index", "step-6.index"} and run.best().step == 4

    def resume() -> training.Run:
        resumed = training.Run(tmp_path / "run", tmp_path / "base", 8, 2)
        resumed.begin({"a": 1}, fresh=False)
        return resumed

    assert (resume().step, resume().best().step, resume().needs_validation()) == (6, 4, False)
    # killed after writing the losses of step 8, before its weights
    longer = replace(run, losses=[*run.losses, LossRow(7, 2.0, None), LossRow(8, 1.0, None)])
    longer.write(run.folder)
    assert (resume().step, resume().best().step, resume().needs_validation()) == (6, 4, False)
    # killed after writing its weights, before its validation loss; finetune left its own checkpoint
    longer.write(run.folder)
    for name in ("step-8.index", "model-7.index", "counter"):
        (run.folder / name).write_text("7")
    assert (resume().step, resume().best().step, resume().needs_validation()) == (8, 4, True)
    assert not list(run.folder.glob("model-*")) and (run.folder / "counter").read_text() == "8\n"
    (run.folder / "losses.csv").unlink()
    (run.folder / "losses.csv.manifest.json").unlink()
    with pytest.raises(UserError, match="losses.csv: no such file"):
        resume()
    replace(run, losses=[LossRow(0, None, 5.0)]).write(run.folder)
    with pytest.raises(UserError, match="has 0 steps, but the weights are of step 8; use --restore fresh"):
        resume()
    fresh = training.Run(tmp_path / "run", tmp_path / "base", 8, 2)
    fresh.begin({"a": 2}, fresh=True)
    assert fresh.step == 0 and {path.name for path in fresh.folder.iterdir()} == {"run.json", "checkpoint"}


def test_the_loader_and_encode_training_row_give_the_same_tokens(bpe: Any, tmp_path: Path) -> None:
    """For cells with quotes, commas, line breaks, and text that looks like CSV or like a control token."""
    nasty = [
        *AWKWARD,
        'she said "no, thanks", twice',
        '"',
        "a,b",
        "=1+1",
        "NA",
        "  many   spaces ",
        "x\ny",
        "\u2028 \x85 \u00a0",
        "'s 'll 't",
    ]
    pairs = [(comment, reply) for comment in nasty for reply in (*nasty, "Dune.")]
    texts = [text.format_training_text(*pair) for pair in pairs] + ["two\nlines, [SEP] one cell", '"']
    schema.write_rows(tmp_path / training.DATASET, FinetuneText, [FinetuneText(each) for each in texts])
    [loaded] = load_dataset.load_dataset(bpe, str(tmp_path / training.DATASET), 50_000)
    rows = [sampling.encode_training_row(bpe, *pair) for pair in pairs] + [sampling.encode_training_text(bpe, each) for each in texts[-2:]]
    assert loaded.tolist() == [token for row in rows for token in row]
    assert len(training.read_dataset(tmp_path / training.DATASET)) == len(texts)


def test_the_sampler_needs_a_window_and_one_token(bpe: Any, tmp_path: Path) -> None:
    path = tmp_path / training.DATASET
    overhead = len(sampling.encode_training_text(bpe, ""))
    for missing in (0, 1):
        schema.write_rows(path, FinetuneText, [FinetuneText(" a" * (1025 - missing - overhead))])
        [chunk] = load_dataset.load_dataset(bpe, str(path), 50_000)
        assert len(chunk) == 1025 - missing
        sampler = load_dataset.Sampler([chunk])
        if missing:
            with pytest.raises(AssertionError, match="too small"):
                sampler.sample(1024)
            with pytest.raises(
                UserError, match=r"gpt2_finetune.csv: only 1024 tokens, but gpt-2-simple trains on windows of 1024; prepare more"
            ):
                training.check_length(path, training.read_dataset(path), bpe)
        else:
            assert len(sampler.sample(1024)) == 1024
            training.check_length(path, training.read_dataset(path), bpe)


def copy_base(bases: Path, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **hparams: int) -> Path:
    """A copy of the base, with these values in hparams.json."""
    source = tmp_path / f"source-{name}"
    source.mkdir()
    for file in weight_bases.GPT2_FILES:
        (source / file).write_bytes((bases / "124M" / file).read_bytes())
    original = json.loads((source / "hparams.json").read_text())
    (source / "hparams.json").write_text(json.dumps({**original, **hparams}))
    monkeypatch.setattr(weight_bases, "BASE_DIR", tmp_path / "base")
    return pull.pull(name, source)


def test_errors_of_bases(bases: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "lm"
    with pytest.raises(UserError, match=r"base weights 355M .* missing; run `python run_bot.py models pull 355M`"):
        train(data, out, base="355M")
    weights = copy_base(bases, "half", monkeypatch, tmp_path) / "model.ckpt.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"base weights half .* incomplete; run `python run_bot.py models pull half`"):
        train(data, out, base="half")
    copy_base(bases, "wide", monkeypatch, tmp_path, n_embd=48)
    with pytest.raises(UserError, match=r"hparams.json does not match model.ckpt: model/wte is \[\d+, 32\], expected \[\d+, 48\]"):
        train(data, out, base="wide")
    damaged = tmp_path / "source-wide" / "model.ckpt.data-00000-of-00001"
    damaged.write_bytes(damaged.read_bytes()[:-99] + b"\0" * 99)
    (tmp_path / "source-wide" / "hparams.json").write_bytes((bases / "124M" / "hparams.json").read_bytes())
    pull.pull("damaged", tmp_path / "source-wide")
    with pytest.raises(UserError, match=r"base/damaged: model.ckpt is damaged"):
        train(data, out, base="damaged")
    short = tiny.gpt2_checkpoint(tmp_path / "short", n_ctx=64)
    pull.pull("short", short)
    with pytest.raises(UserError, match=r"hparams.json: n_ctx is 64, gpt-2-simple needs 1024; use another --base"):
        train(data, out, base="short")
    pull.pull("tiny-lm", tiny.language_model(tmp_path / "tiny-lm"))
    with pytest.raises(UserError, match=r"a model of the transformers back end, not of gpt-2-simple; set generate.backend to transformers"):
        generators.load("gpt-2-simple", tmp_path / "base" / "tiny-lm")
    with pytest.raises(
        UserError, match=r"a checkpoint of gpt-2-simple; set generate.backend to gpt-2-simple, or .*`python run_bot.py models conv"
    ):
        transformers_back_end.load(tmp_path / "base" / "wide")
    assert not (out / "checkpoint").exists()


def test_errors_of_options_and_data(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "lm"
    with pytest.raises(UserError, match=r"--epochs, --pairs: not an option of --backend gpt-2-simple"):
        command.lm(backend="gpt-2-simple", data=data, out=out, pairs=3, epochs=1)
    with pytest.raises(UserError, match=r"--freeze-embeddings: not an option of --backend transformers"):
        command.lm(data=data, out=out, freeze_embeddings=False)
    with pytest.raises(UserError, match=r"gpt2_finetune.csv: only \d+ tokens, but gpt-2-simple trains on windows of 1024"):
        train(write_data(tmp_path, count=3), out)
    (tmp_path / training.DATASET).unlink()
    with pytest.raises(UserError, match=r"gpt2_finetune.csv: no such file; run the stage that writes it first"):
        train(tmp_path, out)
    with (tmp_path / training.DATASET).open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], ["1", "x"]])
    (tmp_path / f"{training.DATASET}.manifest.json").unlink()
    with pytest.raises(UserError, match=r"gpt2_finetune.csv: the first column is id, but gpt-2-simple reads the first; put `text` first"):
        train(tmp_path, out)
    assert not out.exists()


def test_errors_during_training(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of memory, a full disk, a loss that is not finite: the error suggests a remedy, and OUT has no file that looks like a model."""
    original = training.StepHook.run
    fault: Any = None

    def run(hook: training.StepHook, fetches: Any, feed_dict: Any = None) -> Any:
        result = original(hook, fetches, feed_dict)
        if isinstance(fetches, str) and isinstance(fault, Exception) and "step-" in str(feed_dict):
            raise fault
        return result

    monkeypatch.setattr(training.StepHook, "run", run)
    short = {"steps": 2, "save_interval": 1}
    monkeypatch.setattr(sampling, "measure_checkpoint", lambda *_: {"loss": 6.0, "perplexity": 9.0})
    fault = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor with shape[4,1023,50257]")
    with pytest.raises(UserError, match=r"^out of memory at step 1; use a --batch-size below 2, and --restore fresh$"):
        train(data, tmp_path / "lm", batch_size=2, **short)
    with pytest.raises(UserError, match=r"^out of memory at step 1; use --accumulate 1, --freeze-embeddings or a smaller --base"):
        train(data, tmp_path / "lm", restore=Restore.fresh, **short)
    fault = tf.errors.ResourceExhaustedError(None, None, "step-1.data: No space left on device")
    with pytest.raises(UserError, match=r"lm: the disk is full; free some space and run the same command again"):
        train(data, tmp_path / "lm", restore=Restore.fresh, **short)
    fault = None
    with pytest.raises(UserError, match=r"diverged: the loss is (nan|inf) at step \d; use a lower --learning-rate and --restore fresh"):
        train(data, tmp_path / "lm", restore=Restore.fresh, steps=5, learning_rate=1e30)
    assert [path.name for path in (tmp_path / "lm").iterdir()] == [training.RUN]
