"""Generator back end `gpt-2-simple`: a GPT-2 checkpoint as OpenAI published it or as `gpt_2_simple.finetune` left it, in TensorFlow.

Reads a folder with `checkpoint`, model*.index, model*.data-…, hparams.json, encoder.json and vocab.bpe (models/base/124M, checkpoint/run1):

    BOT_GENERATE__BACKEND=gpt-2-simple BOT_GENERATE__MODEL=models/base/124M python run_bot.py generate --in comments.csv --out c.csv

The graph is built once, in `load`, and fed everything that differs from comment to comment. A prompt is read once for all its candidates,
several comments are one batch, and a candidate that has ended takes no more part; where all have, decoding stops.

gpt-2-simple's loader puts `<|startoftext|>` before a row and `<|endoftext|>` after it and encodes both as ordinary text, joined to what
stands beside them (`.<` is one token). So the prompt is encoded together with its start, and the end is told by its tokens' text; id 50256,
which a fine-tuned model never saw, ends a candidate too.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's reports on the processor, at every start

import gpt_2_simple
import tensorflow as tf
from gpt_2_simple.src import encoder, model

from bot import text
from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.generators import shortened, stream_seed
from bot.schema import Candidate, LmRow, sample_rows

START, END = "<|startoftext|>", "<|endoftext|>"  # as in gpt_2_simple.src.load_dataset
FILES = ("checkpoint", "hparams.json", "encoder.json", "vocab.bpe")
REMEDY = "pull it again (`python run_bot.py models pull 124M`), or name another folder in the config"
MEASURED_TOKENS = 1024  # at once, padding counted: measuring takes no more memory than a training step
MASKED = -1e10  # what gpt_2_simple.src.model gives to what may not be seen

Encoded = tuple[list[int], int]  # a row's ids, and how many of them are the prompt's
Attend = Callable[[int, Any, Any, Any], Any]  # layer, queries, keys, values -> what the heads saw, each (comments, heads, time, features)


def encode_prompt(bpe: Any, comment: str, most_tokens: int) -> list[int]:
    """Start and prompt. Of a prompt longer than `most_tokens` the comment's end is cut, never the separator."""
    ids: list[int] = bpe.encode(START + text.format_prompt(comment))
    return shortened(ids, bpe.encode(text.format_prompt("")), most_tokens)


def encode_training_row(bpe: Any, comment: str, reply: str) -> list[int]:
    return encode_training_text(bpe, text.format_training_text(comment, reply))


def encode_training_text(bpe: Any, row: str) -> list[int]:
    """Ids of a row as gpt_2_simple's loader encodes it in the midst of others; it puts a line break after each."""
    ids: list[int] = bpe.encode(START + row + END + "\n")
    return ids


def end_surplus(bpe: Any) -> int:
    """How many tokens more than one BPE makes of END. It is counted as one: else a short reply would be rated by its end."""
    return len(bpe.encode(END)) - 1


def forward(hparams: Any, tokens: Any, positions: Any, attend: Attend) -> Any:
    """gpt_2_simple.src.model.model with the same variables, but for what a token may see, which is `attend`'s business.

    tokens, positions: (comments, time) -> the last layer's output, (comments, time, n_embd).
    """

    def heads(x: Any) -> Any:
        return tf.transpose(model.split_states(x, hparams.n_head), [0, 2, 1, 3])

    scope, width = tf.compat.v1.variable_scope, hparams.n_embd
    with scope("model", reuse=tf.compat.v1.AUTO_REUSE):
        h = tf.gather(embedding(hparams, "wte"), tokens) + tf.gather(embedding(hparams, "wpe"), positions)
        for layer in range(hparams.n_layer):
            with scope(f"h{layer}"):
                normed = model.norm(h, "ln_1")
                with scope("attn"):
                    q, k, v = map(heads, tf.split(model.conv1d(normed, "c_attn", 3 * width), 3, axis=2))
                    seen = model.merge_states(tf.transpose(attend(layer, q, k, v), [0, 2, 1, 3]))
                    h = h + model.conv1d(seen, "c_proj", width)
                h = h + model.mlp(model.norm(h, "ln_2"), "mlp", 4 * width, hparams=hparams)
        return model.norm(h, "ln_f")


def embedding(hparams: Any, name: str) -> Any:
    return tf.compat.v1.get_variable(name, [hparams.n_vocab if name == "wte" else hparams.n_ctx, hparams.n_embd])


def draw(logits: Any, uniform: Any, temperature: Any, top_k: Any, top_p: Any) -> tuple[Any, Any]:
    """Temperature, top-k and nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751), one number of [0, 1) a draw.

    logits (comments, rows, vocabulary), uniform (comments, rows) -> tokens and their log-likelihood under the model itself, before
    temperature, top-k and nucleus. gpt_2_simple's top_p sorts the whole vocabulary at each step; top_k goes first here and saves that.
    """
    top, tokens = tf.nn.top_k(logits, tf.minimum(top_k, tf.shape(logits)[-1]))
    probability = tf.nn.softmax(top / temperature)
    nucleus = tf.where(tf.cumsum(probability, axis=-1, exclusive=True) < top_p, probability, 0.0)
    sums = tf.cumsum(nucleus, axis=-1)
    inside = tf.reduce_sum(tf.cast(nucleus > 0, tf.int32), axis=-1, keepdims=True)
    below = tf.reduce_sum(tf.cast(sums <= uniform[..., None] * sums[..., -1:], tf.int32), axis=-1, keepdims=True)
    place = tf.minimum(below, inside - 1)  # rounding may put the number on the last sum
    likelihood = tf.gather(top, place, batch_dims=2) - tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    return tf.gather(tokens, place, batch_dims=2)[..., 0], likelihood[..., 0]


class EndMarker:
    """Tells the rows whose last tokens spell out END, or are its one id."""

    def __init__(self, bpe: Any, n_vocab: int):
        # the «<|» before it may be one token with the punctuation that it follows; a text break comes after it
        self.tail: list[int] = bpe.encode(END.removeprefix("<|"))
        self.width = len(self.tail) + 2
        self.id: int = bpe.encoder[END]
        written = [bpe.decoder.get(token, "") for token in range(n_vocab)]
        self.opens = np.array([token.endswith("<|") for token in written])
        self.is_bar = np.array([token == "|" for token in written])
        self.is_less = np.array([token.endswith("<") for token in written])

    def ends(self, recent: Any) -> Any:
        """recent (comments, rows, width): the last tokens, -> (comments, rows) of bool."""
        tail = tf.reduce_all(tf.equal(recent[..., 2:], self.tail), axis=-1)
        last, before = recent[..., 1], recent[..., 0]
        opened = tf.gather(self.opens, last) | (tf.gather(self.is_bar, last) & tf.gather(self.is_less, before))
        return (tail & opened) | tf.equal(recent[..., -1], self.id)


class Prompts:
    """The prompts as read once for all their candidates: each layer's keys and values, (comments, heads, width, features)."""

    def __init__(self, hparams: Any, tokens: Any, lengths: Any):
        """tokens (comments, width + 1), padded on the left: the last one is the first that the candidates' loop reads."""
        self.width = tf.shape(tokens)[1] - 1
        self.scale = float(hparams.n_embd // hparams.n_head) ** -0.5
        padding = (tf.shape(tokens)[1] - lengths)[:, None]
        self.hidden = (tf.range(self.width)[None, :] < padding)[:, None, None, :]  # (comments, 1, 1, width)
        self.keys: list[Any] = []
        self.values: list[Any] = []
        forward(hparams, tokens[:, :-1], tf.maximum(tf.range(self.width)[None, :] - padding, 0), self.attend)

    def attend(self, layer: int, q: Any, k: Any, v: Any) -> Any:
        self.keys.append(k)
        self.values.append(v)
        ahead = tf.range(self.width)[:, None] < tf.range(self.width)[None, :]
        scores = tf.where(ahead | self.hidden, MASKED, tf.matmul(q, k, transpose_b=True) * self.scale)
        return tf.matmul(tf.nn.softmax(scores), v)


class Written:
    """What the candidates have written so far: each layer's keys and values, (comments, heads, rows, steps, features)."""

    def __init__(self, prompts: Prompts, keys: list[Any], values: list[Any]):
        self.prompts, self.keys, self.values = prompts, list(keys), list(values)

    def attend(self, layer: int, q: Any, k: Any, v: Any) -> Any:
        """One token a row: it sees its comment's prompt and what its own row has written, itself included."""
        prompts = self.prompts
        self.keys[layer] = tf.concat([self.keys[layer], k[..., None, :]], axis=3)
        self.values[layer] = tf.concat([self.values[layer], v[..., None, :]], axis=3)
        to_prompt = tf.matmul(q, prompts.keys[layer], transpose_b=True) * prompts.scale
        to_own = tf.matmul(self.keys[layer], q[..., None])[..., 0] * prompts.scale
        weights = tf.nn.softmax(tf.concat([tf.where(prompts.hidden, MASKED, to_prompt), to_own], axis=-1))
        own = tf.matmul(weights[..., None, prompts.width :], self.values[layer])[..., 0, :]
        return tf.matmul(weights[..., : prompts.width], prompts.values[layer]) + own


def let_go(ended: Any, recent: Any, row: Any, caches: list[Any]) -> tuple[Any, Any, list[Any]]:
    """Drop rows that have ended; one stays until all comments have one to let go, so that the batch stays a rectangle."""
    left = tf.reduce_max(tf.reduce_sum(tf.cast(~ended, tf.int32), axis=1))
    at_work = tf.argsort(tf.cast(ended, tf.int32), axis=1, stable=True)[:, :left]

    def kept() -> Any:
        by_row = [tf.gather(tf.transpose(each, [0, 2, 1, 3, 4]), at_work, batch_dims=1) for each in caches]
        return [tf.gather(each, at_work, batch_dims=1) for each in (recent, row)] + [tf.transpose(each, [0, 2, 1, 3, 4]) for each in by_row]

    recent, row, *caches = tf.cond(left < tf.shape(row)[1], kept, lambda: [recent, row, *caches])
    return recent, row, caches


def build(hparams: Any, marker: EndMarker, feeds: dict[str, Any]) -> tuple[Any, Any]:
    """The graph from prompts to candidates: tokens and log-likelihood, (comments, candidates, steps); -1 and 0 after a candidate's end."""
    uniform, lengths, layers = feeds["uniform"], feeds["lengths"], hparams.n_layer
    prompts = Prompts(hparams, feeds["prompts"], lengths)
    comments, candidates = tf.shape(uniform)[0], tf.shape(uniform)[1]

    def step(number: Any, recent: Any, row: Any, keys: Any, values: Any, tokens: Any, likelihoods: Any) -> Any:
        """recent (comments, rows, marker.width) and row (comments, rows), the candidate's number, are of the rows still at work."""
        written = Written(prompts, keys, values)
        positions = tf.broadcast_to((lengths - 1)[:, None] + number, tf.shape(row))
        h = forward(hparams, recent[..., -1], positions, written.attend)
        with tf.compat.v1.variable_scope("model", reuse=True):
            flat = tf.matmul(tf.reshape(h, [-1, hparams.n_embd]), embedding(hparams, "wte"), transpose_b=True)
        logits = tf.reshape(flat, [comments, -1, hparams.n_vocab])
        chance = tf.gather(uniform[..., number], row, batch_dims=1)
        drawn, likelihood = draw(logits, chance, feeds["temperature"], feeds["top_k"], feeds["top_p"])
        ended = marker.ends(recent)  # rows that were not let go
        place = tf.stack([tf.broadcast_to(tf.range(comments)[:, None], tf.shape(row)), row], axis=-1)
        whole = tf.stack([comments, candidates])
        column = tf.tensor_scatter_nd_update(tf.fill(whole, -1), place, tf.where(ended, -1, drawn))
        tokens = tf.concat([tokens, column[..., None]], axis=2)
        column = tf.scatter_nd(place, tf.where(ended, 0.0, likelihood), whole)
        likelihoods = tf.concat([likelihoods, column[..., None]], axis=2)
        recent = tf.where(ended[..., None], recent, tf.concat([recent[..., 1:], drawn[..., None]], axis=2))
        recent, row, caches = let_go(marker.ends(recent), recent, row, [*written.keys, *written.values])
        return number + 1, recent, row, caches[:layers], caches[layers:], tokens, likelihoods

    per_head = hparams.n_embd // hparams.n_head
    cache, cached = (
        tf.zeros([comments, hparams.n_head, candidates, 0, per_head]),
        tf.TensorShape([None, hparams.n_head, None, None, per_head]),
    )
    loose = [tf.TensorShape([None] * dimensions) for dimensions in range(4)]
    state = [  # what goes round the loop, and which of its sizes change there
        (tf.constant(0), loose[0]),
        (tf.tile(feeds["prompts"][:, None, -1:], [1, candidates, marker.width]), tf.TensorShape([None, None, marker.width])),
        (tf.tile(tf.range(candidates)[None, :], [comments, 1]), loose[2]),
        ([cache] * layers, [cached] * layers),
        ([cache] * layers, [cached] * layers),
        (tf.zeros([comments, candidates, 0], tf.int32), loose[3]),
        (tf.zeros([comments, candidates, 0]), loose[3]),
    ]
    *_, tokens, likelihoods = tf.while_loop(
        lambda number, recent, row, *_: (number < tf.shape(uniform)[2]) & (tf.shape(row)[1] > 0),
        step,
        [value for value, _ in state],
        shape_invariants=[shape for _, shape in state],
    )
    return tokens, likelihoods


class GPT2Simple:
    def __init__(self, path: Path):
        checkpoint, hparams, self.bpe = open_checkpoint(path)
        self.n_ctx: int = hparams.n_ctx
        self.name = f"gpt-2-simple:{path.name}"
        self.marker = EndMarker(self.bpe, hparams.n_vocab)
        self.graph = tf.Graph()
        with self.graph.as_default():
            placeholder = tf.compat.v1.placeholder
            self.feeds = {
                "prompts": placeholder(tf.int32, [None, None]),  # (comments, time), padded on the left
                "lengths": placeholder(tf.int32, [None]),
                "uniform": placeholder(tf.float32, [None, None, None]),  # (comments, candidates, steps at most)
                "temperature": placeholder(tf.float32, []),
                "top_k": placeholder(tf.int32, []),
                "top_p": placeholder(tf.float32, []),
            }
            self.output = build(hparams, self.marker, self.feeds)
            saver = tf.compat.v1.train.Saver(tf.compat.v1.trainable_variables())
            self.session = gpt_2_simple.start_tf_sess()
            restore_weights(saver, self.session, checkpoint)
        self.graph.finalize()

    def draw(self, prompts: list[list[int]], settings: GenerateSettings, seeds: list[list[int]]) -> tuple[Any, Any]:
        """Candidates of some prompts, a row of seeds for each: see `build`."""
        width = max(map(len, prompts))
        values = {
            "prompts": [[0] * (width - len(prompt)) + prompt for prompt in prompts],
            "lengths": [len(prompt) for prompt in prompts],
            # a random stream of its own for every candidate, so that nothing depends on what else is in the batch
            "uniform": [[np.random.default_rng(seed).random(settings.max_new_tokens, np.float32) for seed in row] for row in seeds],
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "top_p": settings.top_p,
        }
        try:
            tokens, likelihoods = self.session.run(self.output, {self.feeds[name]: value for name, value in values.items()})
        except tf.errors.ResourceExhaustedError:
            raise UserError(f"{self.name}: out of memory; set generate.batch_size lower than {settings.batch_size}") from None
        return tokens, likelihoods

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. A batch is settings.batch_size candidates, or one comment's."""
        if settings.repetition_penalty != 1 or settings.min_new_tokens:
            raise UserError(
                "generate.repetition_penalty and min_new_tokens: back end gpt-2-simple has neither; set them to 1.0 and 0, "
                "or convert the model (`python run_bot.py models convert`) for another back end"
            )
        most = min(settings.max_prompt_tokens, self.n_ctx - settings.max_new_tokens)
        least = len(encode_prompt(self.bpe, "", self.n_ctx)) + 1
        if most < least:
            raise UserError(
                f"generate.max_prompt_tokens {settings.max_prompt_tokens} and max_new_tokens {settings.max_new_tokens} leave {most} of"
                f" {self.n_ctx} tokens for a prompt, and it takes {least} at least; change them"
            )
        together = max(1, settings.batch_size // settings.num_candidates)
        for first in range(0, len(comments), together):
            batch = comments[first : first + together]
            prompts = [encode_prompt(self.bpe, comment, most) for _, comment in batch]
            seeds = [[stream_seed(seed, index, comment) for index in range(settings.num_candidates)] for _, comment in batch]
            tokens, likelihoods = self.draw(prompts, settings, seeds)
            for place, (comment_id, comment) in enumerate(batch):
                yield [
                    self.candidate(comment_id, comment, index, seeds[place][index], tokens[place, index], likelihoods[place, index])
                    for index in range(settings.num_candidates)
                ]

    def candidate(self, comment_id: str, comment: str, index: int, seed: int, tokens: Any, likelihoods: Any) -> Candidate:
        written: list[int] = tokens[tokens >= 0].tolist()
        decoded = str(self.bpe.decode(written))
        surplus = end_surplus(self.bpe) if decoded.endswith(END) and written[-1] != self.marker.id else 0
        mean = float(likelihoods.sum()) / max(1, len(written) - surplus)
        return Candidate(comment_id, f"{comment_id}-{index}", seed, comment, text.parse_reply(decoded), self.name, mean)


def find_checkpoint(path: Path) -> Path:
    """Prefix of the newest checkpoint's files. `checkpoint` may name it by a path of the machine that trained it: its name is enough."""
    missing = [name for name in FILES if not (path / name).is_file()]
    if (path / "config.json").is_file() and "hparams.json" in missing:
        raise UserError(f"{path}: a model of the transformers back end, not of gpt-2-simple; set generate.backend to transformers")
    if missing:
        raise UserError(f"{path}: no whole gpt-2-simple checkpoint here, {', '.join(missing)} missing; {REMEDY}")
    try:
        state = tf.train.get_checkpoint_state(str(path))
    except ValueError:
        state = None
    if state is None:
        raise UserError(f"{path / 'checkpoint'} names no checkpoint; {REMEDY}")
    prefix = path / Path(state.model_checkpoint_path).name
    if not prefix.with_name(prefix.name + ".index").is_file() or not any(path.glob(prefix.name + ".data-*")):
        raise UserError(f"{path}: `checkpoint` names {prefix.name}, but {prefix.name}.index or .data-… is missing; {REMEDY}")
    return prefix


def read_hparams(path: Path) -> Any:
    hparams = model.default_hparams()
    try:
        told = json.loads((path / "hparams.json").read_text(encoding="utf-8"))
        sizes = {name: int(told[name]) for name in vars(hparams)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'hparams.json'}: {', '.join(vars(hparams))} expected, found {error!r}; {REMEDY}") from None
    if min(sizes.values()) < 1 or sizes["n_embd"] % sizes["n_head"]:
        raise UserError(f"{path / 'hparams.json'}: n_embd {sizes['n_embd']} is not a multiple of n_head {sizes['n_head']}; {REMEDY}")
    hparams.override_from_dict(sizes)
    return hparams


def read_encoder(path: Path, n_vocab: int) -> Any:
    """gpt-2-simple's encoder. Cut short, vocab.bpe would still be read, and every text be other tokens than the model learnt."""
    try:
        bpe = encoder.get_encoder(str(path))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: encoder.json or vocab.bpe can't be read ({_first_line(error)}); {REMEDY}") from None
    if END not in bpe.encoder or max(bpe.encoder.values()) >= n_vocab:
        raise UserError(f"{path}: encoder.json has {len(bpe.encoder)} tokens, hparams.json says {n_vocab}; {REMEDY}")
    merged = {"".join(pair) for pair in bpe.bpe_ranks}
    single = {token for token in bpe.encoder if len(token) == 1 or (token[0] == "<" and token[-1] == ">")}  # bytes, <|endoftext|>
    if differ := (merged | single) ^ bpe.encoder.keys():
        raise UserError(f"{path}: vocab.bpe doesn't fit encoder.json, {len(differ)} tokens are in one of them alone; {REMEDY}")
    return bpe


def variable_shapes(hparams: Any) -> dict[str, list[int]]:
    """Names and shapes of the variables that gpt_2_simple.src.model makes."""
    width = hparams.n_embd
    shapes = {"model/wte": [hparams.n_vocab, width], "model/wpe": [hparams.n_ctx, width]}
    for norm in ("ln_f", *(f"h{layer}/{each}" for layer in range(hparams.n_layer) for each in ("ln_1", "ln_2"))):
        shapes |= {f"model/{norm}/g": [width], f"model/{norm}/b": [width]}
    for layer in range(hparams.n_layer):
        for name, rows, columns in (("attn/c_attn", 1, 3), ("attn/c_proj", 1, 1), ("mlp/c_fc", 1, 4), ("mlp/c_proj", 4, 1)):
            shapes |= {f"model/h{layer}/{name}/w": [1, rows * width, columns * width], f"model/h{layer}/{name}/b": [columns * width]}
    return shapes


def open_checkpoint(path: Path) -> tuple[Path, Any, Any]:
    """Prefix of the checkpoint's files, hparams and encoder of a folder in which everything fits. Raises UserError."""
    checkpoint, hparams = find_checkpoint(path), read_hparams(path)
    bpe = read_encoder(path, hparams.n_vocab)
    check_shapes(path, checkpoint, variable_shapes(hparams))
    return checkpoint, hparams, bpe


def check_shapes(path: Path, checkpoint: Path, expected: dict[str, list[int]]) -> None:
    """Raises UserError that names the first variable that is missing or of another shape than hparams.json makes it."""
    try:
        found = tf.train.load_checkpoint(str(checkpoint)).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {checkpoint.name} is not whole ({_first_line(error)}); {REMEDY}") from None
    layers = {name.split("/")[1] for name in found if name.startswith("model/h")} - {name.split("/")[1] for name in expected}
    wrong = [
        f"{name} is {found.get(name, 'missing')} there, {shape} by hparams" for name, shape in expected.items() if found.get(name) != shape
    ]
    wrong += [f"{layer} is there, hparams has no such layer" for layer in sorted(layers)]
    if wrong:
        raise UserError(f"{path}: hparams.json doesn't fit {checkpoint.name}: {wrong[0]}; {REMEDY}")


def restore_weights(saver: Any, session: Any, checkpoint: Path) -> None:
    """Raises UserError where the file of the weights is cut short or damaged: the index tells the rest of what can be wrong."""
    try:
        saver.restore(session, str(checkpoint))
    except tf.errors.ResourceExhaustedError:
        raise  # what to do about that, the caller knows
    except tf.errors.OpError as error:
        raise UserError(f"{checkpoint.parent}: {checkpoint.name} is not whole ({_first_line(error)}); {REMEDY}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


# --- how likely given replies are ---------------------------------------------------------------------------------------


def reply_perplexity(path: Path, rows: Sequence[LmRow], most_rows: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """rows, and loss and perplexity (see Measure), of up to most_rows rows drawn at random.

    settings: of the card; its seed draws. Raises UserError where no row fits into the model's context.
    """
    checkpoint, hparams, bpe = open_checkpoint(path)
    encoded = encode_held_out(bpe, rows, most_rows, settings.get("seed", 0), hparams.n_ctx)
    if not encoded:
        raise UserError(f"{path}: no row of at most {hparams.n_ctx} tokens to measure it on; prepare more data")
    return {"rows": len(encoded), **measure_checkpoint(hparams, bpe, checkpoint, encoded)}


def encode_held_out(bpe: Any, rows: Sequence[LmRow], most_rows: int, seed: int, most_tokens: int) -> list[Encoded]:
    """Some of the rows, drawn at random, as they would be trained on; those that are longer than most_tokens are left out."""
    drawn = sample_rows(list(rows), most_rows, seed)
    encoded = [(encode_training_row(bpe, row.comment, row.reply), len(encode_prompt(bpe, row.comment, most_tokens))) for row in drawn]
    return [(ids, prompt) for ids, prompt in encoded if len(ids) <= most_tokens]


class Measure:
    """Loss over held-out rows with the default graph's variables, which it makes where there are none."""

    def __init__(self, hparams: Any, bpe: Any):
        self.surplus = end_surplus(bpe)
        self.tokens = tf.compat.v1.placeholder(tf.int32, [None, None])  # (rows, time)
        self.parts = tf.compat.v1.placeholder(tf.float32, [2, None, None])  # (whole row or reply, rows, time - 1): 1 where it counts
        logits = model.model(hparams, self.tokens, reuse=tf.compat.v1.AUTO_REUSE)["logits"]
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.tokens[:, 1:], logits=logits[:, :-1])
        self.sums = tf.reduce_sum(nats * self.parts, axis=[1, 2])

    def __call__(self, session: Any, rows: Sequence[Encoded]) -> dict[str, float]:
        """loss: nats per token of whole rows. perplexity: of the reply's tokens, what it spells its end with counted as one."""
        nats = [0.0, 0.0]
        for batch in measured_together(rows):
            width = len(batch[0][0])
            tokens = [ids + [0] * (width - len(ids)) for ids, _ in batch]
            whole = [[1] * (len(ids) - 1) + [0] * (width - len(ids)) for ids, _ in batch]
            reply = [[0] * (prompt - 1) + [1] * (len(ids) - 1 - prompt) + [0] * (width - len(ids) + 1) for ids, prompt in batch]
            sums = session.run(self.sums, {self.tokens: tokens, self.parts: [whole, reply]})
            nats = [total + float(more) for total, more in zip(nats, sums, strict=True)]
        reply_tokens = sum(max(1, len(ids) - 1 - prompt - self.surplus) for ids, prompt in rows)
        perplexity = math.exp(min(nats[1] / reply_tokens, 700.0))  # more would be no float
        return {"loss": nats[0] / sum(len(ids) - 1 for ids, _ in rows), "perplexity": perplexity}


def measured_together(rows: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    """The longest first, each batch at most MEASURED_TOKENS or one row.

    >>> [len(batch) for batch in measured_together([([0] * 400, 9), ([0] * 300, 9), ([0] * 500, 9)])]
    [2, 1]
    """
    left = sorted(rows, key=lambda row: len(row[0]), reverse=True)
    while left:
        count = max(1, MEASURED_TOKENS // len(left[0][0]))
        yield left[:count]
        left = left[count:]


def measure_checkpoint(hparams: Any, bpe: Any, checkpoint: Path, rows: Sequence[Encoded]) -> dict[str, float]:
    """See Measure; of a checkpoint's files."""
    with tf.Graph().as_default(), gpt_2_simple.start_tf_sess() as session:
        measure = Measure(hparams, bpe)
        restore_weights(tf.compat.v1.train.Saver(), session, checkpoint)
        return measure(session, rows)


def load(path: Path, _: Precision = "int8") -> GPT2Simple:
    return GPT2Simple(path)
