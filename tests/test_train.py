"""Training with PyTorch on tiny models and invented rows: learning, resuming, cards and losses."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bot import files, rankers, schema, text
from bot.cli import ROOT, UserError
from bot.corpus import pairs
from bot.export import to_ctranslate2
from bot.generators.transformers import encode_training_row, load_model, reply_perplexity
from bot.rankers import ctranslate2 as serving_rankers
from bot.schema import LabelledRow, LmRow, LossRow, RealismRow, UpvotePair
from bot.train import TRAINERS, command, encoders, lm_transformers, loop
from bot.train import relevance_transformers as relevance
from bot.train.lm_transformers import Method
from bot.weights import bases as weight_bases
from bot.weights import cards, loading, pull
from tests import tiny

GOOD, BAD = "short and funny and kind", "normal minutes boil essay"


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bases")
    patch = pytest.MonkeyPatch()
    patch.setattr(weight_bases, "BASE_DIR", folder)
    pull.pull("tiny-lm", tiny.language_model(tmp_path_factory.mktemp("lm")))
    pull.pull("tiny-encoder", tiny.encoder(tmp_path_factory.mktemp("encoder"), head=False))
    patch.undo()
    return folder


@pytest.fixture
def data(tmp_path: Path, bases: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows in which human replies and upvoted replies are GOOD, and generated and downvoted replies are BAD."""
    monkeypatch.setattr(weight_bases, "BASE_DIR", bases)
    for each, count in (("train", 96), ("val", 8), ("test", 24)):
        threads = tiny.numbers_of_rankers(each, count)
        ids = [(f"t3_{each}{n}", f"t1_{each}{n}", f"t1_r{each}{n}", "sandbox_books", f"Which book, reader {n}?") for n in threads]
        schema.write_rows(tmp_path / f"lm_{each}.csv", LmRow, [LmRow(*row, GOOD) for row in ids])
        schema.write_rows(
            tmp_path / f"realism_{each}.csv",
            RealismRow,
            [RealismRow(*row, GOOD if n % 2 else BAD, n % 2, "" if n % 2 else "g") for n, row in enumerate(ids)],
        )
        siblings = [UpvotePair(t, c, r, f"{r}x", s, body, GOOD, BAD, 30, 0.5) for t, c, r, s, body in ids]
        schema.write_rows(tmp_path / f"upvote_pairs_{each}.csv", UpvotePair, siblings)
    return tmp_path


def train(data: Path, out: Path, **changes: object) -> None:
    options: dict = {
        "base": "tiny-lm",
        "method": lm_transformers.Method.lora,
        "pairs": 96,
        "epochs": 6,
        "max_tokens": 64,
        "batch_tokens": 512,
    }
    tiny.train("lm", **{**options, "data": data, "out": out, "learning_rate": 2e-2, "seed": 1, **changes})


@pytest.mark.parametrize("method", list(lm_transformers.Method))
def test_lm_learns_the_reply_and_writes_a_card(data: Path, method: lm_transformers.Method) -> None:
    out = data / "lm"
    train(data, out, method=method)
    card = cards.read_card(out)
    assert card.kind == "lm" and card.base == "tiny-lm" and card.format == ("adapter" if method == "lora" else "full")
    rows = schema.read_rows(data / "lm_test.csv", LmRow)
    perplexity = [reply_perplexity(each, rows, 24, card.settings)["perplexity"] for each in (out, weight_bases.base_path("tiny-lm"))]
    assert perplexity[0] < perplexity[1] / 5
    assert card.data["lm_train.csv"] == {"rows": 96, "sha256": files.sha256_of(data / "lm_train.csv")}
    assert not (out / "checkpoint.pt").exists() and str(data) not in (out / "model.json").read_text()
    model, tokenizer = load_model(out)
    row, prompt_length = encode_training_row(tokenizer, "Which book, reader 3?", GOOD, 64)
    with torch.inference_mode():
        likeliest = model(torch.tensor([row])).logits[0].argmax(-1).tolist()
    correct = sum(a == b for a, b in zip(likeliest[prompt_length - 1 : -1], row[prompt_length:], strict=True))
    assert correct / (len(row) - prompt_length) > 0.8


def test_adapter_stores_the_name_of_its_base_not_a_local_path(data: Path) -> None:
    train(data, data / "lm", epochs=1)
    config = json.loads((data / "lm" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny-lm"
    assert sorted(path.name for path in (data / "lm").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "losses.csv", "losses.csv.manifest.json", "model.json", "replies.npy",
    ]  # fmt: skip


def test_losses_csv_has_one_row_per_step(data: Path) -> None:
    train(data, data / "lm", epochs=4)
    losses = schema.read_rows(data / "lm" / "losses.csv", LossRow)
    assert [row.step for row in losses] == list(range(1, len(losses) + 1)) and len(losses) >= 8
    assert losses[-1].train_loss < losses[0].train_loss and losses[0].val_loss is None


def test_loss_covers_only_the_reply(bases: Path) -> None:
    model, tokenizer = load_model(bases / "tiny-lm")
    row, prompt_length = encode_training_row(tokenizer, "Which book?", GOOD, 64)
    loss = lm_transformers.batch_loss(model, [(row, prompt_length)], torch.device("cpu"), plain=True)
    logp = torch.log_softmax(model(torch.tensor([row])).logits[0].float(), -1)
    expected = -sum(logp[i - 1, row[i]] for i in range(prompt_length, len(row))) / (len(row) - prompt_length)
    assert loss.item() == pytest.approx(float(expected), abs=tiny.rounding(largest=10))  # of logits
    rows = [(row, prompt_length), (row + row[prompt_length:], len(row))]
    padded = lm_transformers.batch_loss(model, rows, torch.device("cpu"), plain=True)
    assert padded.item() != loss.item()


def test_an_interrupted_run_resumes_with_the_same_result(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(data, data / "uninterrupted", epochs=2)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    steps: list[int] = []
    original = lm_transformers.batch_loss

    def interrupt_at_step_4(*arguments: object) -> object:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(lm_transformers, "batch_loss", interrupt_at_step_4)
    with pytest.raises(KeyboardInterrupt):
        train(data, data / "resumed", epochs=2)
    monkeypatch.setattr(lm_transformers, "batch_loss", original)
    with pytest.raises(UserError, match="other settings"):
        train(data, data / "resumed", epochs=3)
    checkpoint = data / "resumed" / "checkpoint.pt"
    torch.save({**torch.load(checkpoint), "seconds": 7200.0}, checkpoint)
    train(data, data / "resumed", epochs=2)
    assert 2 <= cards.read_card(data / "resumed").hours < 2.5  # those before the interruption count
    expected, resumed = (
        [row.train_loss for row in schema.read_rows(data / name / "losses.csv", LossRow)] for name in ("uninterrupted", "resumed")
    )
    assert resumed == pytest.approx(expected, rel=1e-3)  # the optimizer state is stored in float32, and sums are in another order


def test_a_folder_with_a_half_written_checkpoint_is_one_of_ours(tmp_path: Path) -> None:
    out, data = tmp_path / "out", tmp_path / "data"
    out.mkdir()
    for name in ("checkpoint.pt", ".checkpoint.pt.tmp"):  # the second after kill -9 while it was written
        (out / name).write_bytes(b"x")
        command.check_out(out, data, overwrite=False)
    (out / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="files that this project did not write"):
        command.check_out(out, data, overwrite=False)


def test_options_without_an_effect_are_refused_before_training(data: Path) -> None:
    with pytest.raises(UserError, match="--upper-layers: only for --method lora"):
        train(data, data / "lm", method=Method.full, upper_layers=1)
    with pytest.raises(UserError, match="--start: only for --method lora"):
        train(data, data / "lm", method=Method.full, start=data / "other")
    with pytest.raises(UserError, match="--method layers: a dual encoder is trained with LoRA only"):
        tiny.train("relevance", data=data, out=data / "relevance", base="tiny-encoder", method="layers")


RANKER = {"base": "tiny-encoder", "rows": 192, "epochs": 16, "batch_tokens": 256, "learning_rate": 5e-3, "seed": 1}


@pytest.mark.parametrize("bfloat16", [False, loop.autocast_enabled()], ids=["float32", "this machine"])
@pytest.mark.parametrize("kind", ["realism", "upvote"])
def test_ranker_learns(data: Path, kind: str, bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32, as on most CPUs, and in the precision of this machine: the result must not depend on rounding."""
    monkeypatch.setattr(loop, "autocast_enabled", lambda: bfloat16)
    out = data / "ranker"
    tiny.train(kind, **RANKER, data=data, out=out)
    scores = rankers.load("transformers", out).score([("Which book, reader 99?", GOOD), ("Which book, reader 99?", BAD)])
    assert scores[0] > 0.8 and scores[0] - scores[1] > 0.5
    card = cards.read_card(out)
    assert card.kind == kind and card.settings["scale"] > 0 and card.settings["rows"] == (96 if kind == "realism" else 192)


def test_a_ranker_with_trained_layers(data: Path) -> None:
    """It learns, does not contain the embeddings, and can be exported. A missing weight is an error and is not replaced at random."""
    out = data / "ranker"
    tiny.train("realism", **{**RANKER, "method": "layers", "learning_rate": 2e-3}, data=data, out=out)
    assert cards.read_card(out).format == "layers" and not (out / "adapter_config.json").exists()
    pairs = [("Which book, reader 99?", GOOD), ("Which book, reader 99?", BAD)]
    scores = rankers.load("transformers", out).score(pairs)
    assert scores[0] > 0.8 and scores[0] - scores[1] > 0.5
    exported = to_ctranslate2.export(out, "float32")
    assert serving_rankers.load_export(exported).score(pairs) == pytest.approx(scores, abs=tiny.rounding(largest=10))
    weights = load_file(out / loading.LAYERS_FILE)
    assert not any("embeddings" in name for name in weights)
    weights.pop("classifier.weight")
    save_file(weights, out / loading.LAYERS_FILE)
    with pytest.raises(UserError, match="missing or unknown weight classifier.weight"):
        rankers.load("transformers", out)


def test_upvote_can_use_all_training_threads(data: Path) -> None:
    """The judges' half has the opposite karma here, so a ranker trained on both halves learns less."""
    rows = schema.read_rows(data / "upvote_pairs_train.csv", UpvotePair)
    other = tiny.numbers_of_rankers("train", 400)
    judges = [f"t3_train{n}" for n in range(400) if n not in set(other)][: len(rows)]
    both = zip(rows, judges, strict=False)
    turned = [replace(row, thread_id=thread, comment_id=f"t1_{thread}", chosen=row.rejected, rejected=row.chosen) for row, thread in both]
    schema.write_rows(data / "upvote_pairs_train.csv", UpvotePair, [*rows, *turned])
    counts = {}
    for threads in ("rankers", "all"):
        tiny.train("upvote", **{**RANKER, "epochs": 1, "rows": 10_000, "threads": threads}, data=data, out=data / threads)
        counts[threads] = cards.read_card(data / threads).settings["rows"]
    assert counts == {"rankers": 2 * len(rows), "all": 2 * (len(rows) + len(turned))}


def test_the_command_trains_then_evaluates_for_the_card(
    data: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOT_BASES", str(weight_bases.BASE_DIR))  # for the evaluation processes
    monkeypatch.setenv("BOT_RANK__BACKEND", "transformers")
    out = data / "ranker"
    command.realism(**RANKER, data=data, out=out, evaluate=False)
    printed = capfd.readouterr().out
    assert f"python run_bot.py evaluate --model {out} --data {data}" in printed and "roc_auc" not in cards.read_card(out).metrics
    with pytest.raises(UserError, match="overwrite"):
        command.realism(**RANKER, data=data, out=out, evaluate=False)
    command.realism(**{**RANKER, "seed": 2}, data=data, out=out, overwrite=True)
    card = cards.read_card(out)
    assert card.settings["seed"] == 2 and card.metrics["all"]["ranker"]["roc_auc"][0] == 1.0
    assert card.metrics["all"]["always_real"]["balanced_accuracy"][0] == 0.5
    with pytest.raises(UserError, match=r"--classes: not an option of --backend transformers"):
        command.upvote(**RANKER, data=data, out=data / "x", classes="2")
    with pytest.raises(UserError, match="tiny-encoder is a base of kind encoder, but --backend gpt-2-simple trains gpt2; use --backend tr"):
        command.lm(backend="gpt-2-simple", base="tiny-encoder", data=data, out=data / "x")


def test_two_rankers_trained_together_share_their_encoder(data: Path) -> None:
    """Each learns its own task (here realism prefers BAD, upvote GOOD), from the same adapter."""
    for each in ("train", "val", "test"):
        rows = schema.read_rows(data / f"realism_{each}.csv", RealismRow)
        schema.write_rows(
            data / f"realism_{each}.csv", RealismRow, [replace(row, label=1 - row.label, generator="g" * row.label) for row in rows]
        )
    options = {"rows": 192, "epochs": 16, "batch_tokens": 256, "learning_rate": 5e-3, "seed": 1}
    upvote, realism = data / "upvote", data / "realism"
    tiny.train("upvote", base="tiny-encoder", data=data, out=upvote, **options, realism_out=realism)
    pairs = [("Which book, reader 99?", GOOD), ("Which book, reader 99?", BAD)]
    for folder, kind, other, better in ((upvote, "upvote", "realism", 0), (realism, "realism", "upvote", 1)):
        card = cards.read_card(folder)
        assert (card.kind, card.settings["outputs"], card.settings["trained_together"]) == (kind, 2, ["upvote", "realism"])
        scores = rankers.load("transformers", folder).score(pairs)
        assert scores[better] > 0.8 and scores[better] - scores[1 - better] > 0.5
        steps = [row.step for row in schema.read_rows(folder / "losses.csv", LossRow)]
        assert steps and not {*steps} & {row.step for row in schema.read_rows(data / other / "losses.csv", LossRow)}
    assert (upvote / "adapter_model.safetensors").read_bytes() == (realism / "adapter_model.safetensors").read_bytes()
    assert not (upvote / "checkpoint.pt").exists()


def test_the_two_folders_of_rankers_trained_together_must_differ(data: Path) -> None:
    both = {"base": "tiny-encoder", "data": data, "evaluate": False}
    with pytest.raises(UserError, match=r"--realism-out and --out are the same folder, .*r; use two different folders"):
        command.upvote(**both, out=data / "r", realism_out=data / "x" / ".." / "r")
    with pytest.raises(UserError, match="--realism-out trains on every subreddit, including those of --leave-out"):
        command.upvote(**both, out=data / "r", realism_out=data / "t", leave_out=["s"])
    (data / "file").touch()
    for folder in (data / "file", Path("/proc/no")):
        with pytest.raises(UserError, match=str(folder)):
            command.upvote(**both, out=data / "r", realism_out=folder)


def test_two_rankers_trained_together_resume_with_the_same_result(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"rows": 192, "epochs": 2, "batch_tokens": 256, "learning_rate": 5e-3, "seed": 1}

    def train_both(name: str) -> list[str]:
        folders = [data / f"{name}-upvote", data / f"{name}-realism"]
        tiny.train("upvote", base="tiny-encoder", data=data, out=folders[0], **options, realism_out=folders[1])
        return [(folder / "losses.csv").read_text() for folder in folders]

    expected = train_both("uninterrupted")
    clip = torch.nn.utils.clip_grad_norm_
    steps = iter(range(9))  # interrupted after nine steps

    def interrupting_clip(*arguments: object) -> object:
        next(steps)
        return clip(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", interrupting_clip)
    with pytest.raises(StopIteration):
        train_both("resumed")
    assert len(torch.load(data / "resumed-upvote" / "checkpoint.pt")["losses"]) == 9
    assert not (data / "resumed-realism" / "model.json").exists()
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    assert train_both("resumed") == expected


def test_an_encoder_is_trained_without_dropout(bases: Path) -> None:
    model, _ = encoders.ranker_to_train(bases / "tiny-encoder", 1, 1)
    assert model.training and {part.p for part in model.modules() if isinstance(part, torch.nn.Dropout)} == {0.0}


TOPICS = dict(
    zip(
        ["book", "kettle", "essay", "train", "vinegar", "keeper", "saturdays", "ending", "winning", "boil", "laugh", "clean"],
        ["light", "minutes", "thousand", "journey", "normal", "lighthouse", "about", "kind", "they", "long", "funny", "should"],
        strict=True,
    )
)  # topic of the comment -> word in its replies


def write_relevance(folder: Path) -> None:
    """Replies belong to a comment by topic only: comment and reply share no word (counted with its punctuation)."""
    for each, count in (("train", 240), ("val", 48), ("test", 48)):
        human = [
            LmRow(
                f"t3_{each}{n}",
                f"t1_{each}{n}",
                f"t1_r{each}{n}",
                "s",
                f"Which {topic}?",
                f"The {topic} is {TOPICS[topic]}{'!' * (n // len(TOPICS) % 4)}",
            )
            for n in tiny.numbers_of_rankers(each, count)
            for topic in [list(TOPICS)[n % len(TOPICS)]]
        ]
        schema.write_rows(folder / f"relevance_{each}.csv", LabelledRow, pairs.relevance_rows(human))


def test_relevance_ranker_learns(data: Path) -> None:
    write_relevance(data)
    out = data / "relevance"
    tiny.train("relevance", base="tiny-encoder", data=data, out=out, rows=240, epochs=24, batch_tokens=512, learning_rate=1.5e-3)
    card = cards.read_card(out)
    assert card.kind == "relevance" and card.settings["scale"] > 0
    ranker = rankers.load("transformers", out)
    pairs = [(f"Which {topic}?", f"The {topic} is {word}") for topic, word in TOPICS.items()]
    mismatched = [(comment, reply) for (comment, _), (_, reply) in zip(pairs, [*pairs[1:], pairs[0]], strict=True)]
    scores = ranker.score(pairs)
    assert sum(scores) / 12 > sum(ranker.score(mismatched)) / 12 + 0.3
    shuffled = [pairs[n] for n in (5, 0, 11)]
    bound = tiny.rounding(largest=card.settings["scale"])
    assert ranker.score(shuffled, batch_size=1) == pytest.approx([scores[n] for n in (5, 0, 11)], abs=bound)
    assert ranker.score([]) == []


def test_replies_of_the_same_thread_or_text_are_not_negatives() -> None:
    rows = [
        LabelledRow(thread, "t1_c", f"t1_{n}", "s", "c", reply, 1)
        for n, (thread, reply) in enumerate([("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")])
    ]
    cosines = torch.tensor([[0.5, 1.0, 1.0, 0.4], [1.0, 0.5, 0.5, 0.5], [1.0, 0.5, 0.5, 0.5], [0.4, 0.5, 0.5, 0.5]])
    t = relevance.TEMPERATURE
    by_row = [[0.5, 0.4], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.4, 0.5, 0.5]]  # the positive, then the negatives
    expected = sum(-(row[0] / t) + torch.logsumexp(torch.tensor(row) / t, 0).item() for row in by_row) / 4
    assert relevance.contrastive_loss(cosines, rows).item() == pytest.approx(expected, abs=1e-4)  # the matrix is symmetric


def test_generic_replies_are_negatives_except_for_comments_that_got_them() -> None:
    rows = [LabelledRow(f"t{n}", "t1_c", f"t1_{n}", "s", "c", reply, 1) for n, reply in enumerate(["Thanks! ", "why"])]
    cosines = torch.tensor([[0.5, 0.1, 0.9], [0.1, 0.5, 0.4]])
    t = relevance.TEMPERATURE
    by_row, by_column = [[0.5, 0.1], [0.5, 0.1, 0.4]], [[0.5, 0.1], [0.5, 0.1]]  # "thanks!" is not a negative of the first
    expected = [sum(-(row[0] / t) + torch.logsumexp(torch.tensor(row) / t, 0).item() for row in both) / 2 for both in (by_row, by_column)]
    assert relevance.contrastive_loss(cosines, rows, ["thanks!"]).item() == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_rankers_are_not_trained_on_the_judges_half(data: Path) -> None:
    """As many rows in the judges' half have the opposite labels."""
    rows = schema.read_rows(data / "realism_train.csv", RealismRow)
    judges = islice((n for n in itertools.count() if text.half_for(f"t3_j{n}") == "judge"), len(rows))
    rows += [replace(row, thread_id=f"t3_j{n}", label=1 - row.label, generator="h") for n, row in zip(judges, rows, strict=True)]
    schema.write_rows(data / "realism_train.csv", RealismRow, rows)
    tiny.train("realism", **{**RANKER, "rows": 1000}, data=data, out=data / "ranker")
    card = cards.read_card(data / "ranker")
    assert (card.settings["rows"], card.settings["generators"], card.data["realism_train.csv"]["rows"]) == (96, ["g"], 192)
    good, bad = rankers.load("transformers", data / "ranker").score([("Which book, reader 99?", GOOD), ("Which book, reader 99?", BAD)])
    assert good - bad > 0.5


def test_relevance_batches_are_of_one_subreddit_and_have_every_row_once_per_epoch() -> None:
    rows = [LabelledRow(f"t{n}", f"c{n}", f"r{n}", "Big" if n % 3 else "small", "c", "r", 1) for n in range(90)]
    batches = relevance.batches_by_subreddit(rows, [10] * 90, 150, 2, 1)
    assert all(len({rows[n].subreddit for n in batch}) == 1 and 8 <= len(batch) <= 15 for batch in batches)
    assert sorted(n for batch in batches for n in batch) == sorted([*range(90), *range(90)])


def test_only_rows_above_max_tokens_is_an_error(data: Path) -> None:
    long = [LmRow(f"t3_{n}", f"t1_{n}", f"t1_r{n}", "s", "book", "funny " * 200) for n in range(5)]
    schema.write_rows(data / "lm_train.csv", LmRow, long)
    with pytest.raises(UserError, match="no row of at most 64 tokens"):
        train(data, data / "lm")


def test_a_missing_base_is_an_error(data: Path) -> None:
    with pytest.raises(UserError, match="models pull"):
        train(data, data / "lm", base="smollm2-135m-instruct")


def test_batches_have_every_item_once_per_epoch_within_the_token_limit() -> None:
    items = [(n * 37) % 90 + 5 for n in range(500)]
    batches = loop.batches_by_length(items, lambda n: n, 256, 2, 1)
    assert sorted(item for batch in batches for item in batch) == sorted(items * 2)
    assert all(max(batch) * len(batch) <= 256 for batch in batches)
    assert batches == loop.batches_by_length(items, lambda n: n, 256, 2, 1) != loop.batches_by_length(items, lambda n: n, 256, 2, 2)


def test_too_few_test_rows_for_relevance_are_an_error_before_training(data: Path, tmp_path: Path) -> None:
    """`evaluate` needs nine replies of other threads of the subreddit for its shortest lists."""
    for split in ("train", "val", "test"):
        few = 6 if split == "test" else 40
        rows = [
            LabelledRow(f"t3_{split}{n}", f"t1_{n}", f"t1_r{n}", "books", tiny.TEXT[n % 4], f"{GOOD} {n}", int(n % 3 > 0))
            for n in range(few)
        ]
        schema.write_rows(tmp_path / f"relevance_{split}.csv", LabelledRow, rows)
    with pytest.raises(UserError, match="relevance_test.csv: no comment has 9 replies of other threads .*; prepare more data"):
        tiny.train("relevance", data=tmp_path, out=tmp_path / "out", base="tiny-encoder", rows=24)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("split", "labels", "message"),
    [
        ("train", [], "relevance_train.csv: needs rows of both labels"),
        ("train", [1, 0, 1], "relevance_train.csv: no subreddit has 8 replies"),
        ("val", [1], "relevance_val.csv: needs rows of both labels"),
        ("test", [0, 0], "relevance_test.csv: needs rows of both labels"),
    ],
)
def test_tiny_splits_end_relevance_before_training(split: str, labels: list[int], message: str, data: Path, tmp_path: Path) -> None:
    for each in ("train", "val", "test"):
        given = labels if each == split else [int(n % 3 > 0) for n in range(40)]
        rows = [
            LabelledRow(f"t3_{each}{n}", f"t1_{n}", f"t1_r{n}", "books", tiny.TEXT[n % 4], f"{GOOD} {n}", label)
            for n, label in enumerate(given)
        ]
        schema.write_rows(tmp_path / f"relevance_{each}.csv", LabelledRow, rows)
    with pytest.raises(UserError, match=f"{message}.*; prepare more data"):
        tiny.train("relevance", data=tmp_path, out=tmp_path / "out", base="tiny-encoder", rows=24)
    assert not (tmp_path / "out").exists()


def test_the_progress_bar_has_no_loss_before_the_first_step(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(step: int) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.run_steps([], 3, interrupted, lambda: None)
    shown = capsys.readouterr()
    assert "training" in shown.out + shown.err and "loss" not in shown.out + shown.err
    losses: list[float] = []
    loop.run_steps(losses, 2, lambda step: 0.5, lambda: None)
    shown = capsys.readouterr()
    assert losses == [0.5, 0.5] and "step 2 of 2, loss 0.5000, 0 min, about 0 min left\n" in shown.out  # a line for log files


@pytest.mark.parametrize("kind", ["lm", "realism", "upvote", "relevance"])
@pytest.mark.usefixtures("cold")
def test_missing_rows_are_noticed_before_a_framework_is_loaded(kind: str, tmp_path: Path) -> None:
    for backend in TRAINERS[kind]:
        program = (
            "import sys\nfrom bot.__main__ import main\n"
            f"sys.argv = ['', 'train', '{kind}', '--backend', '{backend}', '--data', '{tmp_path}/none', '--out', '{tmp_path}/out']\n"
            "try:\n    main('run_bot.py')\nfinally:\n    print(sorted({'torch', 'tensorflow'} & sys.modules.keys()))\n"
        )
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1 and done.stdout.strip() == "[]", done.stdout + done.stderr
        assert f"{tmp_path}/none" in done.stderr and done.stderr.count("\n") == 1
