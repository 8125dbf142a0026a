"""Sarcastic headlines: the GloVe and stacked BiLSTM classifier of chapter 7 of L. Moroney, «AI and Machine Learning for Coders» (2020),
beside plain baselines, MiniLM, and the network of back end glove-bilstm, all on one split.

Reads  FILE, JSON lines with `headline` and `is_sarcastic` (0 or 1), also as .zst; the bases glove-6b-50d and minilm-l6.
Writes OUT/MODEL.json: the probabilities of the test headlines and of the chapter's four sentences, and the curves; curves.png, the accuracy
       and loss of each epoch; coverage.MODEL.png, how the vocabulary size was chosen. Prints the tables in Markdown.

    python benchmarks/headlines.py --in headlines.jsonl.zst --out data/headlines                        all models, 1.5 h on two idle cores
    python benchmarks/headlines.py --in headlines.jsonl.zst --out data/headlines --only tfidf --only tuned

Each model is trained in a process of its own, because no process holds two frameworks. Models that are in OUT are not trained again. A hash
of the headline makes the split: eight tenths for training, one for early stopping, one for the figures.
"""

from __future__ import annotations

import hashlib
import io
import json
import string
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bot import files, metrics
from bot.cli import UserError, run_command
from bot.train.realism_glove_bilstm import Options

SENTENCES = (  # the chapter's; the first and the last are headlines of The Onion
    "It Was, For, Uh, Medical Reasons, Says Doctor To Boris Johnson, Explaining Why They Had To Give Him Haircut",
    "It's a beautiful sunny day",
    "I lived in Ireland, so in high school they made me learn to speak and write in Gaelic",
    "Census Foot Soldiers Swarm Neighborhoods, Kick Down Doors To Tally Household Sizes",
)
MAX_WORDS = 50  # of a headline, as in the chapter
SEED = 1

Split = dict[str, tuple[list[str], list[int]]]  # train, val, test -> headlines, labels


@dataclass
class Result:
    """probabilities: of the test headlines. sentences: of SENTENCES. curves: name -> value of each epoch. parameters: trained ones."""

    probabilities: list[float]
    sentences: list[float]
    _: KW_ONLY
    seconds: float = 0.0
    parameters: int = 0
    vocabulary: int = 0
    vectors: str = ""
    curves: dict[str, list[float]] | None = None


# --- data -----------------------------------------------------------------------------------------------------------------


def read(path: Path) -> Split:
    """Raises UserError if the file cannot be read."""
    import zstandard

    try:
        with path.open("rb") as file:
            packed = zstandard.ZstdDecompressor(max_window_size=1 << 31).stream_reader(file) if path.suffix == ".zst" else file
            rows = [json.loads(line) for line in io.TextIOWrapper(packed, encoding="utf-8")]
        labels_of = {str(row["headline"]): int(row["is_sarcastic"]) for row in rows}
    except (OSError, ValueError, LookupError, TypeError, zstandard.ZstdError) as error:
        raise UserError(f"{path}: not JSON lines with headline and is_sarcastic ({error}); give another file") from None
    result: Split = {"train": ([], []), "val": ([], []), "test": ([], [])}
    for headline, label in labels_of.items():
        tenth = int(hashlib.sha256(" ".join(headline.lower().split()).encode()).hexdigest(), 16) % 10
        texts, labels = result[{8: "val", 9: "test"}.get(tenth, "train")]
        texts.append(headline)
        labels.append(label)
    return result


# --- models -----------------------------------------------------------------------------------------------------------------


def tfidf(split: Split, *_: Any) -> Result:
    """TF-IDF of words and pairs of words, and logistic regression; C by the validation headlines."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]")
    encode = vectorizer.fit(split["train"][0]).transform
    return regression(split, encode, (1, 3, 10, 30, 100))


def frozen_minilm(split: Split, *_: Any) -> Result:
    """The vectors of untuned MiniLM, and logistic regression."""
    from bot import rankers

    encoder: Any = rankers.load_base("minilm-l6")
    return regression(split, lambda texts: encoder.encode(texts, 32), (1, 10))


def regression(split: Split, encode: Callable[[list[str]], Any], strengths: Sequence[float]) -> Result:
    from sklearn.linear_model import LogisticRegression

    features = {each: encode(texts) for each, (texts, _) in split.items()}
    models = [LogisticRegression(C=strength, max_iter=2000).fit(features["train"], split["train"][1]) for strength in strengths]
    best = max(models, key=lambda model: model.score(features["val"], split["val"][1]))
    probabilities, sentences = (best.predict_proba(each)[:, 1].tolist() for each in (features["test"], encode([*SENTENCES])))
    return Result(probabilities, sentences, parameters=best.coef_.size)


def tuned_minilm(split: Split, checkpoint: Path, _: str) -> Result:
    """MiniLM with LoRA, two epochs, as the rankers of back end transformers."""
    import torch

    from bot.rankers.transformers import Transformers, encode_pair, logits
    from bot.train import encoders, loop
    from bot.weights import bases

    model, tokenizer = encoders.ranker_to_train(bases.base_path("minilm-l6"), 1, SEED)
    texts, labels = split["train"]
    encoded = [encode_pair(tokenizer, "", text) for text in texts]
    batches = loop.batches_by_length(range(len(texts)), lambda row: len(encoded[row][0]), 1024, 2, SEED)

    def loss_of(batch: list[int]) -> torch.Tensor:
        targets = torch.tensor([float(labels[row]) for row in batch], device=loop.device())
        outputs = logits(model, tokenizer, [encoded[row] for row in batch])[:, 0]
        return torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets)

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loop.fit(trained, batches, loss_of, 5e-4, checkpoint, {}, SEED)
    ranker = Transformers(model.eval(), tokenizer)
    scores = [ranker.score([("", text) for text in texts]) for texts in (split["test"][0], SENTENCES)]
    return Result(*scores, parameters=sum(each.numel() for each in trained))


_STOP_WORDS = (  # the chapter's
    "a about above after again against all am an and any are as at be because been before being below between both but by "
    "could did do does doing down during each few for from further had has have having he hed hes her here heres hers "
    "herself him himself his how hows i id ill im ive if in into is it its itself lets me more most my myself nor of on "
    "once only or other ought our ours ourselves out over own same she shed shell shes should so some such than that thats "
    "the their theirs them themselves then there theres these they theyd theyll theyre theyve this those through to too "
    "under until up very was we wed well were weve what whats when whens where wheres which while who whos whom why whys "
    "with would you youd youll youre youve your yours yourself yourselves"
)
STOP_WORDS = set(_STOP_WORDS.split())


def chapter_words(headline: str) -> list[str]:
    """The chapter's words: lower case, without punctuation and stop words.

    >>> chapter_words("It's a Well-Known fact, says Area Man")
    ['wellknown', 'fact', 'says', 'area', 'man']
    """
    spaced = headline.lower()
    for mark in ",./":
        spaced = spaced.replace(mark, f" {mark} ")
    bare = [word.translate(str.maketrans("", "", string.punctuation)) for word in spaced.split()]
    return [word for word in bare if word and word not in STOP_WORDS]


def chapter(split: Split, checkpoint: Path, vectors: str, vocabulary: int, learning_rate: float, epochs: int) -> Result:
    """The chapter's model and training. Its vectors are those of Twitter with 25 numbers (--vectors glove.twitter.27B.25d.txt).

    Padding at the end is not masked, so each text is 50 words long, most of them zero vectors.
    """
    from bot.rankers import glove_bilstm
    from bot.train.glove_bilstm import choose_words

    import keras  # isort: skip

    keras.utils.set_random_seed(SEED)
    tokenized = {each: [chapter_words(text) for text in texts] for each, (texts, _) in split.items()}
    words = choose_words(tokenized["train"], vectors, vocabulary, False, SEED)
    save_coverage(words, checkpoint)
    ids, width = words.ids, words.pretrained.width
    table = words.table.copy()
    table[glove_bilstm.UNKNOWN] = 0

    def inputs(texts: list[list[str]]) -> Any:
        whole = [[ids.get(word, glove_bilstm.UNKNOWN) for word in text][:MAX_WORDS] for text in texts]
        return glove_bilstm.padded([*whole, [0] * MAX_WORDS])[:-1]

    lstms = [keras.layers.Bidirectional(keras.layers.LSTM(width, return_sequences=returns)) for returns in (True, False)]
    embedding = keras.layers.Embedding(len(table), width, trainable=False)
    layers = [embedding, *lstms, keras.layers.Dense(24, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
    model = keras.Sequential([keras.Input((MAX_WORDS,), dtype="int32"), *layers])
    embedding.set_weights([table])
    model.compile(loss="binary_crossentropy", optimizer=keras.optimizers.Adam(learning_rate), metrics=["accuracy"], jit_compile=True)
    checkpoint.mkdir(exist_ok=True)
    history = checkpoint / "history.csv"  # of the epochs before an interruption, too
    model.fit(
        inputs(tokenized["train"]), np.array(split["train"][1]), batch_size=32, epochs=epochs, verbose=2,
        validation_data=(inputs(tokenized["val"]), np.array(split["val"][1])),
        callbacks=[keras.callbacks.BackupAndRestore(checkpoint / "epoch"), keras.callbacks.CSVLogger(history, append=True)],
    )  # fmt: skip
    lines = [line.split(",") for line in history.read_text(encoding="utf-8").split()]
    curves = {name: [float(value) for value in values] for name, *values in zip(*lines, strict=True) if name != "epoch"}
    predict = lambda texts: model.predict(inputs(texts), verbose=0)[:, 0].tolist()  # noqa: E731
    trained = sum(int(np.prod(each.shape)) for each in model.trainable_weights)
    answers = predict(tokenized["test"]), predict([chapter_words(text) for text in SENTENCES])
    return Result(*answers, parameters=trained, vocabulary=len(words.words), curves=curves)


def save_coverage(words: Any, checkpoint: Path) -> None:
    """Write OUT/coverage.MODEL.png, from OUT/checkpoint.MODEL.npz."""
    from bot.train import glove_bilstm as trainer

    trainer.save_plots(words, checkpoint.parent)
    (checkpoint.parent / "coverage.png").replace(checkpoint.with_name(f"coverage.{checkpoint.suffixes[0][1:]}.png"))


def network(split: Split, checkpoint: Path, vectors: str, tokenize: Callable[[str], list[str]] | None = None, **changes: Any) -> Result:
    """The network of back end glove-bilstm with one text a row: masked padding, dropout, early stopping."""
    from bot.rankers import glove_bilstm
    from bot.train import glove_bilstm as trainer

    import keras  # isort: skip

    options = Options(**{"epochs": 15, "batch_tokens": 1024, "seed": SEED, "base": vectors, **changes})
    tokenize = tokenize or glove_bilstm.words_of
    keras.utils.set_random_seed(SEED)
    words = trainer.choose_words([tokenize(text) for text in split["train"][0]], options.base, options.vocabulary, options.fine_tune, SEED)
    sizes = {"width": words.pretrained.width, "units": options.units, "dense": options.dense, "dropout": options.dropout}
    model = glove_bilstm.Network(len(words.table), **sizes, sides=1, train_vectors=options.fine_tune)
    model.embedding.embeddings.assign(words.table)
    ids = words.ids
    encode = lambda row: (glove_bilstm.ids_of(tokenize(row[0]), ids, MAX_WORDS),)  # noqa: E731
    parts = {
        each: trainer.Batches([trainer.labelled((text,), label) for text, label in zip(*split[each], strict=True)], encode)
        for each in ("train", "val")
    }
    losses = trainer.fit(model, parts["train"], parts["val"], options, checkpoint, {"changes": changes, "vectors": vectors}).rows()
    save_coverage(words, checkpoint)
    ranker = glove_bilstm.GloveBilstm(model, ids)
    score = lambda texts: [1 / (1 + np.exp(-value)) for value in ranker.logits_of_ids([encode((text,)) for text in texts])]  # noqa: E731
    ends = [row.step for row in losses if row.val_loss is not None]
    curves = {
        "loss": [float(np.mean([row.train_loss for row in losses[low:high]])) for low, high in zip([0, *ends], ends, strict=False)],
        "val_loss": [row.val_loss for row in losses if row.val_loss is not None],
    }
    trained = [*model.encoder.trainable_variables, *model.head.trainable_variables]
    size = sum(int(np.prod(each.shape)) for each in trained)
    answers = (list(map(float, score(texts))) for texts in (split["test"][0], SENTENCES))
    return Result(*answers, parameters=size, vocabulary=len(words.words), curves=curves)


# From the chapter to the best model, one change at a time.
MODELS: dict[str, tuple[str, Callable[[Split, Path, str], Result]]] = {
    "tfidf": ("TF-IDF (words, pairs) + logistic regression", tfidf),
    "minilm-frozen": ("MiniLM, frozen + logistic regression", frozen_minilm),
    "minilm-tuned": ("MiniLM, LoRA, 2 epochs", tuned_minilm),
    "chapter": ("the chapter: 13,200 words, learning rate 1e-5, 30 epochs", lambda *where: chapter(*where, 13_200, 1e-5, 30)),
    "chapter-2000": ("the chapter with 2,000 words", lambda *where: chapter(*where, 2_000, 1e-5, 30)),
    "rate": ("the chapter with learning rate 1e-3, 8 epochs", lambda *where: chapter(*where, 13_200, 1e-3, 8)),
    "masked": (
        "its words and sizes in our network: padding masked, dropout",
        lambda *where: network(*where, chapter_words, vocabulary=13_200, units=50, dense=24),
    ),
    "words": ("and stop words and punctuation kept", lambda *where: network(*where, vocabulary=13_200, units=50, dense=24)),
    "words-2000": ("the same with 2,000 words", lambda *where: network(*where, vocabulary=2_000, units=50, dense=24)),
    "wide": ("the default network: 64 units, vocabulary by coverage", network),
    "tuned": ("and vectors fine-tuned, dropout 0.5", lambda *where: network(*where, fine_tune=True, dropout=0.5)),
}


# --- tables and plots -------------------------------------------------------------------------------------------------------


def table(split: Split, results: dict[str, Result]) -> str:
    """Accuracy (with Wilson's interval), ROC-AUC and F1 on the test headlines, and the probabilities of the four sentences."""
    labels = np.array(split["test"][1])
    lines = ["| model | accuracy | ROC-AUC | F1 | words | trained weights | minutes | the four sentences |", "|---" * 8 + "|"]
    for name, result in results.items():
        values = np.array(result.probabilities)
        right = int(((values >= 0.5) == labels).sum())
        share, low, high = metrics.wilson_interval(right, len(labels))
        f1 = metrics.precision_recall_f1(metrics.confusion_matrix(labels, values >= 0.5))[2, 1]
        sentences = " ".join(f"{value:.2f}" for value in result.sentences)
        words = f"{result.vocabulary:,}" if result.vocabulary else ""
        lines.append(
            f"| {MODELS[name][0]} | {share:.3f} [{low:.3f}, {high:.3f}] | {metrics.roc_auc(labels, values):.3f} | {f1:.3f} | {words}"
            f" | {result.parameters:,} | {result.seconds / 60:.1f} | {sentences} |"
        )
    return "\n".join(lines)


def save_curves(results: dict[str, Result], path: Path) -> None:
    """Accuracy (where the model has it) and loss of each epoch: dashed for training, solid for validation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    panels = dict(zip(("accuracy", "loss"), figure.subplots(1, 2), strict=True))
    for number, (name, result) in enumerate((name, result) for name, result in results.items() if result.curves):
        for kind, axes in panels.items():
            for curve, style in ((kind, "--"), (f"val_{kind}", "-")):
                values = (result.curves or {}).get(curve, [])
                axes.plot(range(1, len(values) + 1), values, style, color=f"C{number}", label=name if style == "-" and values else None)
    for kind, axes in panels.items():
        axes.set(title=f"{kind.capitalize()} (dashed: training)", xlabel="epoch")
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    figure.savefig(path, dpi=100)


def main(
    source: Annotated[Path, typer.Option("--in", help="JSON lines with headline and is_sarcastic, also as .zst")],
    out: Annotated[Path, typer.Option(help="folder to write")] = Path("data/headlines"),
    only: Annotated[list[str] | None, typer.Option(help=f"model; repeatable: {', '.join(MODELS)}")] = None,
    vectors: Annotated[str, typer.Option(help="GloVe vectors: a base, or the path of a file")] = "glove-6b-50d",
    here: Annotated[bool, typer.Option("--here", hidden=True)] = False,
) -> None:
    """Train and compare classifiers of headlines."""
    out.mkdir(parents=True, exist_ok=True)
    split = read(source)
    chosen = [name for name in MODELS if not only or name in only]
    if unknown := {*(only or ())} - MODELS.keys():
        raise UserError(f"--only {min(unknown)}: no such model; choose from {', '.join(MODELS)}")
    if here:
        started = time.monotonic()
        checkpoint = out / f"checkpoint.{chosen[0]}.npz"
        result = MODELS[chosen[0]][1](split, checkpoint, vectors)
        result.seconds = time.monotonic() - started
        result.vectors = vectors if result.vocabulary else ""
        with files.atomic_writer(out / f"{chosen[0]}.json") as file:
            json.dump(asdict(result), file)
        files.remove(checkpoint)
        return
    for name in chosen:
        if (out / f"{name}.json").exists():
            of_earlier = Result(**json.loads((out / f"{name}.json").read_text(encoding="utf-8"))).vectors
            if of_earlier not in ("", vectors):
                raise UserError(f"{out / name}.json: made with {of_earlier}; give another --out for {vectors}")
        else:
            print(name, flush=True)
            subprocess.run(
                [sys.executable, __file__, "--in", source, "--out", out, "--only", name, "--vectors", vectors, "--here"], check=True
            )
    results = {
        name: Result(**json.loads((out / f"{name}.json").read_text(encoding="utf-8"))) for name in MODELS if (out / f"{name}.json").exists()
    }
    print({each: len(labels) for each, (_, labels) in split.items()})
    print(table(split, results))
    save_curves(results, out / "curves.png")


if __name__ == "__main__":
    run_command(main, "headlines.py")
