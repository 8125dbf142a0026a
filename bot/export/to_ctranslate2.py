"""models export: export generators and rankers to serving folders, which CTranslate2 runs without PyTorch.

Reads  SOURCE: a generator or ranker in transformers' format, either an adapter with its card or a full folder (for a gpt-2-simple
       checkpoint, run `models convert` first). An adapter is merged into its base.
Writes .serving/NAME-PRECISION next to SOURCE, atomically: CTranslate2's model.bin, config.json and vocabulary.json, the tokenizer
       (tokenizer.json), the head of a ranker (head.npz), and serving.json with the origin and the facts that the back ends need.
       Next to it, .NAME-sums.json caches checksums for serving.fingerprint.

    python run_bot.py models export                         all models in the config without a current export, two at a time
    python run_bot.py models export models/lm --precision float32

Workers call serving.ensure_exported, which runs the export in its own process, so that a worker never loads PyTorch. The folder .serving
may be deleted at any time. In CTranslate2's vocabulary the name of a token is its id; only the tokenizer converts between text and ids.
"""

from __future__ import annotations

import copy
import gc
import json
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bot import cli, config, files, generators, rankers
from bot.cli import UserError
from bot.rankers import scoring
from bot.weights import cards, loading, serving

MAX_DIFFERENCE = 1e-3  # between model and export, both in float32


def required_exports(settings: config.Settings) -> list[tuple[Path, config.Precision]]:
    """The models that the configured back ends run as exports, with their precision. Raises UserError for an unknown back end."""
    exports: list[tuple[Path, config.Precision]] = []
    if generators.back_end(settings.generate.backend).exported:
        cards.check_kind(settings.generate.model, "generate.model", "lm")
        exports.append((settings.generate.model, settings.generate.precision))
    if rankers.back_end(settings.rank.backend).exported:
        exports += [(folder, settings.rank.precision) for folder in scoring.folders(settings.rank).values()]
    exports += [
        (folder, "int8") for folder in (settings.conduct.comment_classifier, settings.conduct.reply_classifier) if folder is not None
    ]
    return exports


def export(source: Path, precision: config.Precision) -> Path:
    """Export `source` unless its serving folder is current. Returns the serving folder.

    Raises:
        UserError: there is no model, CTranslate2 does not support its architecture, or the folder cannot be written.
    """
    loading.transformers_folder(source)
    out = serving.serving_folder(source, precision)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with files.wait_for_lock(out.with_name(f".{out.name}.lock"), f"{out.name}: waiting for another export of it"):
            if not serving.is_current(source, precision):
                cli.say(f"{source}: exporting for CTranslate2 ({precision}); needed once, and again when the model changes")
                _build(source, precision, out)
    except PermissionError as error:
        raise UserError(f"{error.filename}: no permission to write; grant it, or use the back end transformers") from None
    return out


def _build(source: Path, precision: config.Precision, out: Path) -> None:
    """Export `source` to the folder `out` atomically."""
    files.check_output_folder(out, [source], True, lambda path: (path / serving.SERVING_FILE).exists())
    made_from = serving.origin(source)  # before reading the model, so that later changes make the export outdated
    facts, save = _ranker(source) if _is_ranker(source) else _generator(source)
    content = {"precision": precision, **facts, "made_from": made_from}
    with files.atomic_folder(out) as new:
        save(new, precision)
        (new / serving.SERVING_FILE).write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def _is_ranker(source: Path) -> bool:
    if (source / cards.CARD_FILE).exists():
        return cards.read_card(source).kind != "lm"
    content = json.loads((source / "config.json").read_text(encoding="utf-8"))
    return any(name.endswith("ForSequenceClassification") for name in content.get("architectures") or ())


def _generator(source: Path) -> tuple[dict[str, Any], Any]:
    """The facts for generators.ctranslate2, and a function that writes the other files."""
    import numpy as np

    from bot.export import smooth
    from bot.generators import transformers as reference

    model, tokenizer = reference.load_model(source)
    start, end = reference.start_and_end(tokenizer)
    spelt_start, spelt_end = reference.spelt_ends(tokenizer)
    sizes = model.config
    context = reference.context_length(sizes)
    if not getattr(sizes, "num_attention_heads", None):
        raise _unsupported(source, f"{sizes.model_type} has no attention")
    facts = {
        "kind": "generator", "start": start, "end": end, "spelt_start": spelt_start, "spelt_end": spelt_end,
        "context": context, "vocabulary": sizes.vocab_size, "bytes_a_token": _bytes_a_token(sizes),
    }  # fmt: skip

    def save(folder: Path, precision: config.Precision) -> None:
        _check(source, model, tokenizer, folder, _generator_check(source, model, context))
        if precision == "int8":
            before = _log_probabilities(model, context)
            smooth.smooth(model, lambda comment, reply: reference.encode_training_row(tokenizer, comment, reply, 96)[0][:context])
            difference = np.abs(np.exp(_log_probabilities(model, context)) - np.exp(before)).max()
            if not difference <= MAX_DIFFERENCE:
                raise AssertionError(f"{source}: scaling for int8 changed the model's probabilities by {difference:.2g}")
        save_serving(source, model, tokenizer, folder, precision)

    return facts, save


def _bytes_a_token(sizes: Any) -> int:
    """The memory of a token's keys and values in float32."""
    heads = sizes.num_attention_heads
    width = getattr(sizes, "head_dim", None) or sizes.hidden_size // heads
    return int(sizes.num_hidden_layers * 2 * (getattr(sizes, "num_key_value_heads", None) or heads) * width * 4)


def _ranker(source: Path) -> tuple[dict[str, Any], Any]:
    """The facts for rankers.ctranslate2, and a function that writes the other files."""
    import numpy as np

    from bot.rankers import transformers as reference

    ranker = reference.load(source)
    encoder = ranker.encoder if isinstance(ranker, reference.LabelClassifier) else ranker
    encoder.model.cpu()
    tokenizer, sizes = encoder.tokenizer, encoder.model.config
    if sizes.model_type != "bert":
        raise UserError(f"{source}: a ranker of type {sizes.model_type!r}; only BERT can be exported, set rank.backend to transformers")
    if not hasattr(sizes, "position_embedding_type"):
        sizes.position_embedding_type = "absolute"  # the only type in transformers 5, but CTranslate2's converter needs it
    facts = {
        "kind": "classifier", "start": tokenizer.cls_token_id, "separator": tokenizer.sep_token_id,
        "width": sizes.hidden_size, "longest": min(rankers.MAX_TOKENS, tokenizer.model_max_length),
        "segments": reference.takes_segments(encoder.model),
    }  # fmt: skip
    head: dict[str, Any] | None = None
    if isinstance(ranker, reference.LabelClassifier):
        facts |= {"kind": "labels", "labels": ranker.labels}
        head = {"weight": ranker.weight, "bias": ranker.bias}
    elif isinstance(ranker, reference.DualEncoder):
        facts |= {"kind": "dual encoder", "scale": ranker.scale, "offset": ranker.offset}
    else:
        weight, bias = (value[ranker.output] for value in (ranker.model.classifier.weight, ranker.model.classifier.bias))
        head = {"weight": ranker.scale * weight, "bias": ranker.scale * bias + ranker.offset}  # includes the calibration
        head = {name: value.detach().numpy() for name, value in head.items()}

    def save(folder: Path, precision: config.Precision) -> None:
        model = encoder.model.base_model
        _check(source, model, tokenizer, folder, _encoder_check(source, model, facts))
        save_serving(source, model, tokenizer, folder, precision)
        if head is not None:
            np.savez(folder / serving.HEAD_FILE, **head)

    return facts, save


def save_serving(source: Path, model: Any, tokenizer: Any, folder: Path, precision: config.Precision) -> None:
    """Write CTranslate2's files and the tokenizer. Raises UserError if CTranslate2 does not support the architecture."""
    from ctranslate2.converters import TransformersConverter

    class Converter(TransformersConverter):  # type: ignore[misc]
        """Converts a model in memory, with a merged adapter, by CTranslate2's rules for its architecture."""

        def load_model(self, *_: Any, **__: Any) -> Any:
            return model

        def load_tokenizer(self, *_: Any, **__: Any) -> Any:
            return tokenizer

        def _load(self) -> Any:
            spec = super()._load()
            spec.register_vocabulary([str(number) for number in range(spec.get_vocabulary_size())])
            # required by the engine but unused, because callers pass ids, start and end
            spec.config.unk_token = spec.config.bos_token = spec.config.eos_token = str(tokenizer.eos_token_id or 0)
            return spec

    gc.freeze()  # otherwise garbage collection after each layer would scan all of PyTorch, which takes 60 % of the time
    try:
        Converter(str(loading.transformers_folder(source))).convert(str(folder), quantization=precision, force=True)
    except (ValueError, NotImplementedError, AttributeError, KeyError, TypeError) as error:  # it reads keys that a config may lack
        raise _unsupported(source, loading.reason(error)) from None
    finally:
        gc.unfreeze()
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))


def _unsupported(source: Path, reason: str) -> UserError:
    remedy = "set rank.backend to transformers" if _is_ranker(source) else "use the back end transformers (--engine transformers)"
    return UserError(f"{source}: CTranslate2 does not support this model ({reason}); {remedy}")


def _check(source: Path, model: Any, tokenizer: Any, folder: Path, check: Callable[[Path], None]) -> None:
    """Export a copy of the model in float32 to a temporary folder and check it. (The converter takes the model apart.)

    folder: a new folder; the temporary one is in it, so that a killed export leaves nothing that the next one does not remove.
    """
    exact = folder / "exact"
    try:
        save_serving(source, copy.deepcopy(model), tokenizer, exact, "float32")
        try:
            check(exact)
        except (ValueError, RuntimeError) as error:  # the engine stops at sizes that it does not expect, e.g. a text longer than a window
            raise _unsupported(source, f"the export does not run: {cli.first_line(error)}") from None
    finally:
        shutil.rmtree(exact, ignore_errors=True)


def _generator_check(source: Path, model: Any, context: int) -> Callable[[Path], None]:
    """A check that raises UserError if an export in float32 gives other probabilities of the next token than the model.

    CTranslate2's converters ignore some keys of a config, and the export is then another model. The text is as long as a prompt and a
    candidate, so that a window that is longer is no difference.
    """
    import ctranslate2
    import numpy as np

    ids, own = _ids_as_long_as_in_use(model, context), _log_probabilities(model, context)

    def check(exact: Path) -> None:
        engine = ctranslate2.Generator(str(exact), compute_type="float32")
        served = np.array(engine.forward_batch([[str(each) for each in ids]], return_log_probs=True))[0]
        _refuse_difference(source, "probabilities of the next token", np.abs(np.exp(served[:, : own.shape[1]]) - np.exp(own)).max())
        chosen = np.arange(len(ids) - 1), np.array(ids[1:])
        _refuse_difference(source, "log-likelihood of a text", abs(float((served[:-1][chosen] - own[:-1][chosen]).mean())))

    return check


def _ids_as_long_as_in_use(model: Any, context: int) -> list[int]:
    lengths = config.GenerateSettings()
    return _any_ids(model.config.vocab_size, min(lengths.max_prompt_tokens + lengths.max_new_tokens, context))


def _log_probabilities(model: Any, context: int) -> Any:
    """The model's log-probabilities of each next token of a fixed text, (tokens, vocabulary)."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor([_ids_as_long_as_in_use(model, context)], device=next(model.parameters()).device)
        return torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1).cpu().numpy()


def _encoder_check(source: Path, model: Any, facts: dict[str, Any]) -> Callable[[Path], None]:
    """A check that raises UserError if an export in float32 gives other outputs than the encoder."""
    import ctranslate2
    import numpy as np
    import torch

    ids = _any_ids(model.config.vocab_size, facts["longest"])
    segments = [int(facts["segments"] and place >= len(ids) // 2) for place in range(len(ids))]
    with torch.inference_mode():
        device = next(model.parameters()).device
        given = {"input_ids": torch.tensor([ids], device=device), "token_type_ids": torch.tensor([segments], device=device)}
        own = model(**given).last_hidden_state[0].float().cpu().numpy()

    def check(exact: Path) -> None:
        engine = ctranslate2.Encoder(str(exact), compute_type="float32")
        served = np.array(engine.forward_batch([ids], token_type_ids=[segments]).last_hidden_state)[0]
        _refuse_difference(source, "outputs", np.abs(served - own).max())

    return check


def _any_ids(vocabulary: int, length: int) -> list[int]:
    drawn = random.Random(0)
    return [drawn.randrange(vocabulary) for _ in range(length)]


def _refuse_difference(source: Path, what: str, difference: float) -> None:
    if not difference <= MAX_DIFFERENCE:
        raise _unsupported(source, f"{what} of the export differ by {difference:.2g}")


def export_all(sources: Sequence[tuple[Path, config.Precision]]) -> list[Path]:
    """Export all sources, with a progress bar in a terminal."""
    return [export(source, precision) for source, precision in cli.track(sources, "exporting")]


@contextmanager
def exporting(sources: Sequence[tuple[Path, config.Precision]]) -> Iterator[None]:
    """Export the sources at the same time as the block, in another process for each precision. Raises UserError if one fails."""
    by_precision: dict[config.Precision, list[Path]] = {}
    for source, precision in sources:
        by_precision.setdefault(precision, []).append(source)
    processes = [serving.start_export(own, precision) for precision, own in by_precision.items()]
    with ThreadPoolExecutor() as pool:  # reads their messages
        finished = [pool.submit(serving.finish_export, process) for process in processes]
        yield
        if finished:
            with cli.waiting("exporting the other models"):
                for each in finished:
                    each.exception()  # waits
    for each in finished:
        each.result()


def export_command(
    sources: Annotated[list[Path] | None, typer.Argument(metavar="SOURCE", help="model folders [default: those in the config]")] = None,
    precision: Annotated[config.Precision, typer.Option(help="precision of the weights, for SOURCE")] = "int8",
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings, used without SOURCE")] = None,
) -> None:
    """Export generators and rankers for the back end ctranslate2. Skips models whose export is current."""
    required = [(source, precision) for source in sources] if sources else [*dict.fromkeys(required_exports(config.load(config_file)))]
    missing = [each for each in required if not serving.is_current(*each)]
    first = 1 if not sources else len(missing)  # the generator comes first, and takes about as long as all other models together
    with exporting(missing[first:]):
        export_all(missing[:first])
    for each in required:
        print(files.display_path(serving.serving_folder(*each)))
