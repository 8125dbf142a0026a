"""models export-tfhub: export a transformers BERT as a SavedModel for TensorFlow Hub.

Reads  models/base/NAME: config.json, safetensors weights of a BertModel (without a task head), tokenizer.json or vocab.txt.
Writes OUT: a SavedModel with the encoder API of TensorFlow Hub's BERTs, and base.json.

    python run_bot.py models export-tfhub minilm-l6 --out models/base/minilm-l6-tfhub

The inputs are a dict of input_word_ids, input_mask and input_type_ids, int32 (batch, time). The outputs are a dict of pooled_output (batch,
width), also as `default`, sequence_output (batch, time, width) and encoder_outputs, a list with the output of each layer. The model has
vocab_file and do_lower_case and can be trained with hub.KerasLayer(…, trainable=True). PyTorch is not needed.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from safetensors import SafetensorError
from safetensors.numpy import load_file

from bot import files
from bot.cli import UserError
from bot.weights import bases, loading

INPUTS = ("input_word_ids", "input_mask", "input_type_ids")
MIN_POSITIONS = 152  # rankers.MAX_TOKENS, padded as in rankers.tfhub_bert
ACTIVATIONS = {
    "gelu": lambda tf, x: tf.nn.gelu(x, approximate=False),
    "gelu_new": lambda tf, x: tf.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda tf, x: tf.nn.gelu(x, approximate=True),
    "relu": lambda tf, x: tf.nn.relu(x),
}
MASKED = -1e9  # added to the attention scores of masked positions
DROPOUT_SEED = 1  # makes training reproducible

Weights = Mapping[str, Any]  # name -> tf.Variable


def tensorflow() -> Any:
    """TensorFlow, which is imported when a model is exported: not for `--help`, nor before an error."""
    with loading.importing_tensorflow():
        import tensorflow as tf
    return tf


def forward(weights: Weights, config: dict[str, Any], inputs: Mapping[str, Any], training: bool) -> dict[str, Any]:
    """The forward pass of BERT (Devlin et al. 2018, arXiv:1810.04805), from the dict of inputs to the dict of outputs."""
    tf = tensorflow()
    ids, mask, types = (inputs[name] for name in INPUTS)
    batch, time = tf.shape(ids)[0], tf.shape(ids)[1]
    width, heads = config["hidden_size"], config["num_attention_heads"]
    activate = ACTIVATIONS[config["hidden_act"]]

    def dense(x: Any, name: str) -> Any:  # x: (batch * time, features); one large product is faster than many small ones
        return tf.nn.bias_add(tf.matmul(x, weights[f"{name}.weight"]), weights[f"{name}.bias"])

    def norm(x: Any, name: str) -> Any:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        return tf.nn.batch_normalization(
            x, mean, variance, weights[f"{name}.bias"], weights[f"{name}.weight"], variance_epsilon=config["layer_norm_eps"]
        )

    def drop(x: Any, rate: float) -> Any:
        return tf.nn.dropout(x, rate, seed=DROPOUT_SEED) if training and rate else x

    def split(x: Any) -> Any:  # -> (batch, heads, time, features)
        return tf.transpose(tf.reshape(x, [batch, time, heads, width // heads]), [0, 2, 1, 3])

    h = tf.gather(weights["embeddings.word_embeddings.weight"], ids)
    h += weights["embeddings.position_embeddings.weight"][:time] + tf.gather(weights["embeddings.token_type_embeddings.weight"], types)
    h = drop(norm(tf.reshape(h, [-1, width]), "embeddings.LayerNorm"), config["hidden_dropout_prob"])
    hidden = (1.0 - tf.cast(mask, tf.float32)[:, None, None, :]) * MASKED
    layers = []
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"
        query, key, value = (split(dense(h, f"{name}.attention.self.{part}")) for part in ("query", "key", "value"))
        seen = tf.nn.softmax(tf.matmul(query * (width // heads) ** -0.5, key, transpose_b=True) + hidden)  # (batch, heads, time, time)
        mixed = tf.transpose(tf.matmul(drop(seen, config["attention_probs_dropout_prob"]), value), [0, 2, 1, 3])
        mixed = dense(tf.reshape(mixed, [-1, width]), f"{name}.attention.output.dense")
        h = norm(drop(mixed, config["hidden_dropout_prob"]) + h, f"{name}.attention.output.LayerNorm")
        inner = dense(activate(tf, dense(h, f"{name}.intermediate.dense")), f"{name}.output.dense")
        h = norm(drop(inner, config["hidden_dropout_prob"]) + h, f"{name}.output.LayerNorm")
        layers.append(tf.reshape(h, [batch, time, width]))
    pooled = tf.tanh(dense(layers[-1][:, 0], "pooler.dense"))
    return {"pooled_output": pooled, "default": pooled, "sequence_output": layers[-1], "encoder_outputs": layers}


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The name and shape of every weight in transformers' format. config: content of config.json."""
    width, inner = config["hidden_size"], config["intermediate_size"]
    result: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (config["type_vocab_size"], width),
    }
    dense = {"pooler.dense": (width, width)}
    norms = ["embeddings.LayerNorm"]
    for number in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{number}"
        dense |= {f"{name}.attention.self.{part}": (width, width) for part in ("query", "key", "value")}
        dense |= {f"{name}.attention.output.dense": (width, width)}
        dense |= {f"{name}.intermediate.dense": (inner, width), f"{name}.output.dense": (width, inner)}
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
    for name, shape in dense.items():
        result |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        result |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return result


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json of a BERT. Raises UserError if the model is not supported."""
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if content.get("model_type") != "bert":
        raise UserError(f'{folder / "config.json"}: model_type is {content.get("model_type")!r}; only "bert" can be exported')
    config = {
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "type_vocab_size": 2,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-12,
    } | content
    if config.get("position_embedding_type", "absolute") != "absolute" or config.get("hidden_act") not in ACTIVATIONS:
        raise UserError(
            f"{folder / 'config.json'}: position_embedding_type {config.get('position_embedding_type')!r}, hidden_act"
            f" {config.get('hidden_act')!r}; only absolute positions and one of {', '.join(ACTIVATIONS)} can be exported"
        )
    if config["type_vocab_size"] < 2 or config["max_position_embeddings"] < MIN_POSITIONS:
        raise UserError(
            f"{folder / 'config.json'}: type_vocab_size {config['type_vocab_size']}, max_position_embeddings"
            f" {config['max_position_embeddings']}; a pair needs two segments and {MIN_POSITIONS} positions"
        )
    return config


def read_weights(folder: Path, config: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Read every weight of `shapes` in float32, linear layers as (in, out). Raises UserError if one is missing or has a wrong shape."""
    stored: dict[str, np.ndarray[Any, Any]] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            stored |= {name.removeprefix("bert."): value for name, value in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder}: the weights are not readable ({error}); pull it again") from None
    result = {}
    for name, shape in shapes(config).items():
        weight = stored.get(name)
        if weight is None or weight.shape != shape:
            state = "is missing" if weight is None else f"is {list(weight.shape)}"
            raise UserError(f"{folder}: {name} {state}, expected {list(shape)} by config.json; pull it again, or use a BertModel")
        value = weight.astype(np.float32)
        is_linear = name.endswith(".weight") and len(shape) == 2 and not name.startswith("embeddings.")
        result[name] = value.T.copy() if is_linear else value
    return result


def read_vocabulary(folder: Path) -> tuple[list[str], bool]:
    """Read the tokens in the order of their ids, and whether text is lower-cased."""
    try:
        if (folder / "tokenizer.json").exists():
            content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            if content["model"]["type"] != "WordPiece" or content["normalizer"]["type"] != "BertNormalizer":
                raise UserError(f"{folder / 'tokenizer.json'}: not BERT's tokenizer (WordPiece, BertNormalizer); it cannot be exported")
            ids = dict(content["model"]["vocab"])
            ids |= {token["content"]: token["id"] for token in content.get("added_tokens") or []}
            return sorted(ids, key=ids.__getitem__), bool(content["normalizer"]["lowercase"])
        content = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return (folder / "vocab.txt").read_text(encoding="utf-8").splitlines(), bool(content.get("do_lower_case", True))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}: no vocabulary, neither tokenizer.json nor vocab.txt is readable ({error}); pull it again") from None


def save(folder: Path, config: dict[str, Any], values: Mapping[str, Any], vocabulary: list[str], lower: bool) -> None:
    """Write the SavedModel to `folder`."""
    tf = tensorflow()
    weights = {name: tf.Variable(value, name=name.replace(".", "/")) for name, value in values.items()}
    spec = {name: tf.TensorSpec([None, None], tf.int32, name) for name in INPUTS}

    call = tf.function(lambda inputs, training=False: forward(weights, config, inputs, training), autograph=False)
    for training in (True, False):
        call.get_concrete_function(spec, training=training)
    root = tf.train.Checkpoint()
    root.__call__ = call
    root.variables = list(weights.values())
    root.trainable_variables = list(weights.values())
    root.regularization_losses = []
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "vocab.txt"
        path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        root.vocab_file = tf.saved_model.Asset(str(path))
        root.do_lower_case = tf.Variable(lower, trainable=False)
        tf.saved_model.save(root, str(folder))


def export(name: str, out: Path | None = None, overwrite: bool = False) -> Path:
    """Export a base to `out` (default: models/base/NAME-tfhub) atomically. An earlier export of the same base is replaced.

    Raises:
        UserError: the base is missing or not a BERT, or `out` contains something else (with `overwrite`: and is not an export).
    """
    out = out or bases.base_folder(f"{name}-tfhub")
    replace = overwrite or origin_of(out) == str(bases.Export(name, ""))
    files.check_output_folder(out, [bases.base_folder(name)], replace, lambda folder: origin_of(folder).startswith("export-tfhub "))
    source = bases.base_path(name)
    origin = bases.Export(name, bases.base_sha256(name))
    config = read_config(source)
    vocabulary, lower = read_vocabulary(source)
    values = read_weights(source, config)
    licence = str((bases.read_base(name) or {})["licence"])
    with files.atomic_folder(out) as new:
        save(new, config, values, vocabulary, lower)
        bases.write_manifest(bases.Base(out.name, "tfhub", origin, licence, size_mb=0), new, None)
    return out


def origin_of(folder: Path) -> str:
    """The source in a folder's base.json; empty if there is none."""
    try:
        return str(json.loads((folder / bases.BASE_FILE).read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def export_tfhub_command(
    name: Annotated[str, typer.Argument(help="a BERT in models/base")] = "minilm-l6",
    out: Annotated[Path | None, typer.Option(help="output folder [default: models/base/NAME-tfhub]")] = None,
    overwrite: files.Overwrite = False,
) -> None:
    """Export a transformers BERT as a SavedModel for TensorFlow Hub, for the ranker back end tfhub-bert."""
    print(files.display_path(export(name, out, overwrite)))
