"""models export: trained generators and rankers as serving folders, which CTranslate2 runs without PyTorch.

Reads  SOURCE: a generator or ranker as transformers has it, an adapter with its card or a whole folder (`models convert` makes such a
       folder of a gpt-2-simple checkpoint). An adapter is merged into its base.
Writes .serving/NAME-PRECISION beside SOURCE, whole or not at all: CTranslate2's model.bin, config.json and vocabulary.json, the tokenizer
       (tokenizer.json), a ranker's head (head.npz), and serving.json: what it was made from and what the back ends need to know.
       Beside it .NAME-sums.json, by which a model is known again without reading it (models.fingerprint).

    python run_bot.py models export                         what the config names, where it isn't there yet or its source changed
    python run_bot.py models export models/lm --precision float32

`ready` is what the workers call: it starts an export as a process of its own, so that a worker never holds PyTorch. What lies in .serving
may be deleted at any time. A token is called by its id in CTranslate2's vocabulary: text becomes ids and ids become text in the tokenizer
alone.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from bot import cli, config, files, generators, rankers
from bot.cli import UserError
from bot.weights import cards, loading, serving


def wanted(settings: config.Settings) -> list[tuple[Path, config.Precision]]:
    """Sources that the back ends of these settings run as exports, and in what precision. Raises UserError for an unknown back end."""
    found: list[tuple[Path, config.Precision]] = []
    if generators.back_end(settings.generate.backend).exported:
        found.append((settings.generate.model, settings.generate.precision))
    if rankers.back_end(settings.rank.backend).exported:
        folders = (settings.rank.realism, settings.rank.upvote, settings.rank.relevance)
        found += [(folder, settings.rank.precision) for folder in folders if folder is not None]
    found += [(folder, "int8") for folder in (settings.conduct.comment_classifier, settings.conduct.reply_classifier) if folder is not None]
    return found


# --- making it ---------------------------------------------------------------------------------------------------------------


def export(source: Path, precision: config.Precision) -> Path:
    """Make the serving folder of `source` unless it is current, and return it.

    Raises:
        UserError: there is no model, CTranslate2 has no such architecture, or the folder can't be written.
    """
    loading.described_in(source)
    out = serving.serving_folder(source, precision)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.wait_for_lock(out.with_name(f".{out.name}.lock"), f"{out.name}: another export is at work on it; waiting for that"):
            if not serving.is_current(source, precision):
                cli.say(f"{source}: exporting it for CTranslate2 ({precision}); once, until it changes")
                _build(source, precision, out)
    except PermissionError as error:
        raise UserError(f"{error.filename}: no permission to write; give it, or use the back end transformers") from None
    return out


def _build(source: Path, precision: config.Precision, out: Path) -> None:
    """Export `source` to the folder `out`, whole or not at all."""
    files.check_output_folder(out, [source], True, lambda there: (there / serving.SERVING_FILE).exists())
    made_from = serving.origin(source)  # before it is read: what changes meanwhile makes the export stale
    facts, save = _ranker(source) if _is_ranker(source) else _generator(source)
    content = {"precision": precision, **facts, "made_from": made_from}
    with files.atomic_folder(out) as new:
        save(new, precision)
        (new / serving.SERVING_FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _is_ranker(source: Path) -> bool:
    if (source / cards.CARD_FILE).exists():
        return cards.read_card(source).kind != "lm"
    told = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return any(name.endswith("ForSequenceClassification") for name in told.get("architectures") or ())


def _generator(source: Path) -> tuple[dict[str, Any], Any]:
    """The facts that generators.ctranslate2 needs, and a function that writes the rest."""
    from bot.generators import transformers as reference

    model, tokenizer = reference.load_model(source)
    start, end = reference.start_and_end(tokenizer)
    spelt_start, spelt_end = reference.spelt_ends(tokenizer)
    sizes = model.config
    heads = sizes.num_attention_heads
    width = getattr(sizes, "head_dim", None) or sizes.hidden_size // heads
    facts = {
        "kind": "generator", "start": start, "end": end, "spelt_start": spelt_start, "spelt_end": spelt_end,
        "context": sizes.max_position_embeddings, "vocabulary": sizes.vocab_size,
        # keys and values in float32
        "bytes_a_token": sizes.num_hidden_layers * 2 * (getattr(sizes, "num_key_value_heads", None) or heads) * width * 4,
    }  # fmt: skip
    return facts, partial(_save, source, model, tokenizer)


def _ranker(source: Path) -> tuple[dict[str, Any], Any]:
    """The facts that rankers.ctranslate2 needs, and a function that writes the rest."""
    import numpy as np

    from bot.rankers import transformers as reference

    ranker = reference.load(source)
    encoder = ranker.encoder if isinstance(ranker, reference.LabelClassifier) else ranker
    encoder.model.cpu()
    tokenizer, sizes = encoder.tokenizer, encoder.model.config
    if sizes.model_type != "bert":
        raise UserError(f"{source}: a ranker on {sizes.model_type!r}; only BERT's can be exported, set rank.backend to transformers")
    if not hasattr(sizes, "position_embedding_type"):
        sizes.position_embedding_type = "absolute"  # all that transformers 5 has; CTranslate2's converter still asks
    facts = {
        "kind": "classifier", "start": tokenizer.cls_token_id, "separator": tokenizer.sep_token_id,
        "width": sizes.hidden_size,
    }  # fmt: skip
    head: dict[str, Any] | None = None
    if isinstance(ranker, reference.LabelClassifier):
        facts |= {"kind": "labels", "labels": ranker.labels}
        head = {"weight": ranker.weight, "bias": ranker.bias}
    elif isinstance(ranker, reference.DualEncoder):
        facts |= {"kind": "dual encoder", "scale": ranker.scale, "offset": ranker.offset}
    else:
        weight, bias = (value[ranker.output] for value in (ranker.model.classifier.weight, ranker.model.classifier.bias))
        head = {"weight": ranker.scale * weight, "bias": ranker.scale * bias + ranker.offset}  # with the calibration in it
        head = {name: value.detach().numpy() for name, value in head.items()}

    def save(folder: Path, precision: config.Precision) -> None:
        _save(source, encoder.model.base_model, tokenizer, folder, precision)
        if head is not None:
            np.savez(folder / serving.HEAD_FILE, **head)

    return facts, save


def _save(source: Path, model: Any, tokenizer: Any, folder: Path, precision: config.Precision) -> None:
    """CTranslate2's files of a model of transformers, and its tokenizer. Raises UserError where CTranslate2 has no such architecture."""
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        """Converts the model that is in memory, adapter merged, by CTranslate2's rules for its architecture."""

        def load_model(self, *_: Any, **__: Any) -> Any:
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load(self) -> Any:
            spec = super()._load()
            spec.register_vocabulary([str(number) for number in range(spec.get_vocabulary_size())])
            # the engine is told ids, starts and ends by the caller; it only wants all three to be there
            spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = str(tokenizer.eos_token_id or 0)
            return spec

    gc.freeze()  # the converter collects garbage after each layer, and would look through all of PyTorch each time: 60 % of its time
    try:
        Converter(str(loading.described_in(source))).convert(str(folder), quantization=precision, force=True)
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{source}: CTranslate2 can't take it ({error}); use the back end transformers") from None
    finally:
        gc.unfreeze()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def export_all(sources: Sequence[tuple[Path, config.Precision]]) -> list[Path]:
    """See export; a bar in a terminal."""
    from rich.progress import track

    console = Console(stderr=True)
    shown = track(sources, "exporting", console=console, transient=True, disable=not console.is_terminal)
    return [export(source, precision) for source, precision in shown]


def export_command(
    sources: Annotated[list[Path] | None, typer.Argument(metavar="[SOURCE]...", help="Model folders (default: all that serve).")] = None,
    precision: Annotated[config.Precision, typer.Option(help="of the weights; for SOURCE")] = "int8",
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings; names the models, without SOURCE")] = None,
) -> None:
    """Export generators and rankers for the back end ctranslate2. Does nothing where an export is there and its source as it was."""
    chosen = [(source, precision) for source in sources] if sources else wanted(config.load(config_file))
    for folder in export_all(chosen):
        print(files.display_path(folder))
