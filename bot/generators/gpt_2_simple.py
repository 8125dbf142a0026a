"""Generator back end `gpt-2-simple`: a GPT-2 checkpoint from OpenAI or from `gpt_2_simple.finetune`, in TensorFlow.

Reads a folder with `checkpoint`, model*.index, model*.data-…, hparams.json, encoder.json and vocab.bpe (models/base/124M, checkpoint/run1):

    BOT_GENERATE__BACKEND=gpt-2-simple BOT_GENERATE__MODEL=models/base/124M python run_bot.py generate --in comments.csv --out c.csv

The graph is built once, in `load`; everything that varies between comments is fed. A prompt is encoded once for all its candidates, and
several comments form a batch. Finished candidates are removed from the batch, and decoding stops when all are finished.

gpt-2-simple's loader puts `<|startoftext|>` before each row and `<|endoftext|>` after it and encodes both as ordinary text, so they merge
with adjacent characters (`.<` is one token). Therefore the prompt is encoded together with its start, and the end is recognized by the
text of the tokens. Id 50256, which never occurs in fine-tuning, also ends a candidate.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from bot import metrics, text
from bot.cli import UserError, first_line
from bot.config import GenerateSettings, Precision
from bot.generators import prompt_room, stream_seed, truncate
from bot.schema import Candidate, LmRow, sample_rows
from bot.weights import loading

with loading.importing_tensorflow():
    import gpt_2_simple
    import tensorflow as tf
    from gpt_2_simple.src import encoder, model

START, END = "<|startoftext|>", "<|endoftext|>"  # from gpt_2_simple.src.load_dataset
FILES = ("checkpoint", "hparams.json", "encoder.json", "vocab.bpe")
REMEDY = "pull it again (`python run_bot.py models pull 124M`), or set another folder in the config"
BATCH_TOKENS = 1024  # per batch including padding, so that measuring needs no more memory than a training step
MASKED = -1e10  # score of masked positions, from gpt_2_simple.src.model

Encoded = tuple[list[int], int]  # the ids of a row, and the number of ids in its prompt
Attend = Callable[[int, Any, Any, Any], Any]  # layer, queries, keys, values -> attention output, all (comments, heads, time, features)


def encode_prompt(bpe: Any, comment: str, max_tokens: int) -> list[int]:
    """The ids of start and prompt. If they exceed `max_tokens`, the comment is truncated, but the separator is kept."""
    ids: list[int] = bpe.encode(START + text.format_prompt(comment))
    return truncate(ids, bpe.encode(text.format_prompt("")), max_tokens)


def encode_training_row(bpe: Any, comment: str, reply: str) -> list[int]:
    return encode_training_text(bpe, text.format_training_text(comment, reply))


def encode_training_text(bpe: Any, row: str) -> list[int]:
    """The ids of a row as encoded by gpt_2_simple's loader, which adds a line break after each row."""
    ids: list[int] = bpe.encode(START + row + END + "\n")
    return ids


def end_surplus(bpe: Any) -> int:
    """The number of tokens in END minus 1. END is counted as one token; otherwise it would dominate the mean of a short reply."""
    return len(bpe.encode(END)) - 1


def forward(hparams: Any, tokens: Any, positions: Any, attend: Attend) -> Any:
    """gpt_2_simple.src.model.model with the same variables, but with `attend` as the attention function.

    tokens, positions: (comments, time). Returns the output of the last layer, (comments, time, n_embd).
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
                    attended = model.merge_states(tf.transpose(attend(layer, q, k, v), [0, 2, 1, 3]))
                    h = h + model.conv1d(attended, "c_proj", width)
                h = h + model.mlp(model.norm(h, "ln_2"), "mlp", 4 * width, hparams=hparams)
        return model.norm(h, "ln_f")


def embedding(hparams: Any, name: str) -> Any:
    return tf.compat.v1.get_variable(name, [hparams.n_vocab if name == "wte" else hparams.n_ctx, hparams.n_embd])


def draw(logits: Any, uniform: Any, temperature: Any, top_k: Any, top_p: Any) -> tuple[Any, Any]:
    """Temperature, top-k and nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751).

    logits: (comments, rows, vocabulary). uniform: random numbers in [0, 1), (comments, rows). Returns the tokens and their log-likelihoods
    under the unmodified model. Unlike gpt_2_simple, top_k is applied before top_p, which avoids sorting the whole vocabulary.
    """
    top, tokens = tf.nn.top_k(logits, tf.minimum(top_k, tf.shape(logits)[-1]))
    probability = tf.nn.softmax(top / temperature)
    nucleus = tf.where(tf.cumsum(probability, axis=-1, exclusive=True) < top_p, probability, 0.0)
    sums = tf.cumsum(nucleus, axis=-1)
    inside = tf.reduce_sum(tf.cast(nucleus > 0, tf.int32), axis=-1, keepdims=True)
    below = tf.reduce_sum(tf.cast(sums <= uniform[..., None] * sums[..., -1:], tf.int32), axis=-1, keepdims=True)
    place = tf.minimum(below, inside - 1)  # because of rounding, the number may reach the last sum
    likelihood = tf.gather(top, place, batch_dims=2) - tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    return tf.gather(tokens, place, batch_dims=2)[..., 0], likelihood[..., 0]


class EndMarker:
    """Detects rows whose last tokens spell END or are its id."""

    def __init__(self, bpe: Any, n_vocab: int):
        # the "<|" may be merged with preceding punctuation into one token
        self.tail: list[int] = bpe.encode(END.removeprefix("<|"))
        self.width = len(self.tail) + 2
        self.id: int = bpe.encoder[END]
        texts = [bpe.decoder.get(token, "") for token in range(n_vocab)]
        self.opens = np.array([token.endswith("<|") for token in texts])
        self.is_bar = np.array([token == "|" for token in texts])
        self.is_less = np.array([token.endswith("<") for token in texts])

    def ends(self, recent: Any) -> Any:
        """recent: the last tokens, (comments, rows, width). Returns bool, (comments, rows)."""
        tail = tf.reduce_all(tf.equal(recent[..., 2:], self.tail), axis=-1)
        last, before = recent[..., 1], recent[..., 0]
        opened = tf.gather(self.opens, last) | (tf.gather(self.is_bar, last) & tf.gather(self.is_less, before))
        return (tail & opened) | tf.equal(recent[..., -1], self.id)


class Prompts:
    """The keys and values of the prompts in each layer, (comments, heads, width, features), computed once for all candidates."""

    def __init__(self, hparams: Any, tokens: Any, lengths: Any):
        """tokens: (comments, width + 1), padded on the left. The last token is not processed here but in the first decoding step."""
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


class Decoded:
    """The keys and values of the tokens generated so far in each layer, (comments, heads, rows, steps, features)."""

    def __init__(self, prompts: Prompts, keys: list[Any], values: list[Any]):
        self.prompts, self.keys, self.values = prompts, list(keys), list(values)

    def attend(self, layer: int, q: Any, k: Any, v: Any) -> Any:
        """Attention for one token per row, to the prompt of its comment and to the tokens of its own row including itself."""
        prompts = self.prompts
        self.keys[layer] = tf.concat([self.keys[layer], k[..., None, :]], axis=3)
        self.values[layer] = tf.concat([self.values[layer], v[..., None, :]], axis=3)
        to_prompt = tf.matmul(q, prompts.keys[layer], transpose_b=True) * prompts.scale
        to_own = tf.matmul(self.keys[layer], q[..., None])[..., 0] * prompts.scale
        weights = tf.nn.softmax(tf.concat([tf.where(prompts.hidden, MASKED, to_prompt), to_own], axis=-1))
        own = tf.matmul(weights[..., None, prompts.width :], self.values[layer])[..., 0, :]
        return tf.matmul(weights[..., : prompts.width], prompts.values[layer]) + own


def drop_ended(ended: Any, recent: Any, row: Any, caches: list[Any]) -> tuple[Any, Any, list[Any]]:
    """Remove finished rows. The same number of rows is removed for all comments, so that the batch stays rectangular."""
    left = tf.reduce_max(tf.reduce_sum(tf.cast(~ended, tf.int32), axis=1))
    active = tf.argsort(tf.cast(ended, tf.int32), axis=1, stable=True)[:, :left]

    def kept() -> Any:
        by_row = [tf.gather(tf.transpose(each, [0, 2, 1, 3, 4]), active, batch_dims=1) for each in caches]
        return [tf.gather(each, active, batch_dims=1) for each in (recent, row)] + [tf.transpose(each, [0, 2, 1, 3, 4]) for each in by_row]

    recent, row, *caches = tf.cond(left < tf.shape(row)[1], kept, lambda: [recent, row, *caches])
    return recent, row, caches


def build(hparams: Any, marker: EndMarker, feeds: dict[str, Any]) -> tuple[Any, Any]:
    """Build the graph. Returns tokens and log-likelihoods, (comments, candidates, steps), which are -1 and 0 after a candidate's end."""
    uniform, lengths, layers = feeds["uniform"], feeds["lengths"], hparams.n_layer
    prompts = Prompts(hparams, feeds["prompts"], lengths)
    comments, candidates = tf.shape(uniform)[0], tf.shape(uniform)[1]

    def step(number: Any, recent: Any, row: Any, keys: Any, values: Any, tokens: Any, likelihoods: Any) -> Any:
        """One decoding step. recent (comments, rows, marker.width) and row (comments, rows), the candidate's number: for active rows."""
        decoded = Decoded(prompts, keys, values)
        positions = tf.broadcast_to((lengths - 1)[:, None] + number, tf.shape(row))
        h = forward(hparams, recent[..., -1], positions, decoded.attend)
        with tf.compat.v1.variable_scope("model", reuse=True):
            flat = tf.matmul(tf.reshape(h, [-1, hparams.n_embd]), embedding(hparams, "wte"), transpose_b=True)
        logits = tf.reshape(flat, [comments, -1, hparams.n_vocab])
        numbers = tf.gather(uniform[..., number], row, batch_dims=1)
        drawn, likelihood = draw(logits, numbers, feeds["temperature"], feeds["top_k"], feeds["top_p"])
        ended = marker.ends(recent)  # finished rows that are still in the batch
        place = tf.stack([tf.broadcast_to(tf.range(comments)[:, None], tf.shape(row)), row], axis=-1)
        whole = tf.stack([comments, candidates])
        column = tf.tensor_scatter_nd_update(tf.fill(whole, -1), place, tf.where(ended, -1, drawn))
        tokens = tf.concat([tokens, column[..., None]], axis=2)
        column = tf.scatter_nd(place, tf.where(ended, 0.0, likelihood), whole)
        likelihoods = tf.concat([likelihoods, column[..., None]], axis=2)
        recent = tf.where(ended[..., None], recent, tf.concat([recent[..., 1:], drawn[..., None]], axis=2))
        recent, row, caches = drop_ended(marker.ends(recent), recent, row, [*decoded.keys, *decoded.values])
        return number + 1, recent, row, caches[:layers], caches[layers:], tokens, likelihoods

    per_head = hparams.n_embd // hparams.n_head
    cache, cached = (
        tf.zeros([comments, hparams.n_head, candidates, 0, per_head]),
        tf.TensorShape([None, hparams.n_head, None, None, per_head]),
    )
    loose = [tf.TensorShape([None] * dimensions) for dimensions in range(4)]
    state = [  # the loop variables and their shapes; None for dimensions that change
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
                "uniform": placeholder(tf.float32, [None, None, None]),  # (comments, candidates, maximum steps)
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
        """Draw candidates for the prompts. seeds: one row per prompt. Returns the output of `build`."""
        width = max(map(len, prompts))
        values = {
            "prompts": [[0] * (width - len(prompt)) + prompt for prompt in prompts],
            "lengths": [len(prompt) for prompt in prompts],
            # a separate random stream for every candidate, so that it does not depend on the rest of the batch
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
        """See generators.Generator. A batch has settings.batch_size candidates, or those of one comment."""
        maximum = self.prompt_room(settings)
        batch_comments = max(1, settings.batch_size // settings.num_candidates)
        for first in range(0, len(comments), batch_comments):
            batch = comments[first : first + batch_comments]
            prompts = [encode_prompt(self.bpe, comment, maximum) for _, comment in batch]
            seeds = [[stream_seed(seed, index, comment) for index in range(settings.num_candidates)] for _, comment in batch]
            tokens, likelihoods = self.draw(prompts, settings, seeds)
            for place, (comment_id, comment) in enumerate(batch):
                yield [
                    self.candidate(comment_id, comment, index, seeds[place][index], tokens[place, index], likelihoods[place, index])
                    for index in range(settings.num_candidates)
                ]

    def stream(self, comment_id: str, comment: str, settings: GenerateSettings, seed: int) -> Iterator[Candidate]:
        """See generators.Generator. The candidates are drawn one by one."""
        prompt = encode_prompt(self.bpe, comment, self.prompt_room(settings))
        for index in range(settings.num_candidates):
            own = stream_seed(seed, index, comment)
            tokens, likelihoods = self.draw([prompt], settings, [[own]])
            yield self.candidate(comment_id, comment, index, own, tokens[0, 0], likelihoods[0, 0])

    def prompt_room(self, settings: GenerateSettings) -> int:
        """The maximum number of prompt tokens. Raises UserError if there is no room, or for settings that are not supported."""
        if settings.repetition_penalty != 1 or settings.min_new_tokens:
            raise UserError(
                "generate.repetition_penalty and min_new_tokens: not supported by back end gpt-2-simple; set them to 1.0 and 0, "
                "or convert the model (`python run_bot.py models convert`) for another back end"
            )
        return prompt_room(settings, self.n_ctx, len(encode_prompt(self.bpe, "", self.n_ctx)) + 1)

    def candidate(self, comment_id: str, comment: str, index: int, seed: int, tokens: Any, likelihoods: Any) -> Candidate:
        ids: list[int] = tokens[tokens >= 0].tolist()
        decoded = str(self.bpe.decode(ids))
        surplus = end_surplus(self.bpe) if decoded.endswith(END) and ids[-1] != self.marker.id else 0
        mean = float(likelihoods.sum()) / max(1, len(ids) - surplus)
        return Candidate(comment_id, f"{comment_id}-{index}", seed, comment, text.parse_reply(decoded), self.name, mean)


def find_checkpoint(path: Path) -> Path:
    """The path prefix of the newest checkpoint's files. The file `checkpoint` may have a path of another machine; only its name is used."""
    missing = [name for name in FILES if not (path / name).is_file()]
    if (path / "config.json").is_file() and "hparams.json" in missing:
        raise UserError(f"{path}: a model of the transformers back end, not of gpt-2-simple; set generate.backend to transformers")
    if missing:
        raise UserError(f"{path}: not a complete gpt-2-simple checkpoint, {', '.join(missing)} missing; {REMEDY}")
    try:
        state = tf.train.get_checkpoint_state(str(path))
    except ValueError:
        state = None
    if state is None:
        raise UserError(f"{path / 'checkpoint'} names no checkpoint; {REMEDY}")
    name = PureWindowsPath(state.model_checkpoint_path).name  # separators of either kind
    prefix = path / PureWindowsPath(name).name  # without the drive in C:model-500
    if not prefix.with_name(prefix.name + ".index").is_file() or not any(path.glob(prefix.name + ".data-*")):
        raise UserError(f"{path}: `checkpoint` names {prefix.name}, but {prefix.name}.index or .data-… is missing; {REMEDY}")
    return prefix


def read_hparams(path: Path) -> Any:
    hparams = model.default_hparams()
    try:
        content = json.loads((path / "hparams.json").read_text(encoding="utf-8"))
        sizes = {name: int(content[name]) for name in vars(hparams)}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path / 'hparams.json'}: expected {', '.join(vars(hparams))}, got {error!r}; {REMEDY}") from None
    if min(sizes.values()) < 1 or sizes["n_embd"] % sizes["n_head"]:
        raise UserError(f"{path / 'hparams.json'}: n_embd {sizes['n_embd']} is not a multiple of n_head {sizes['n_head']}; {REMEDY}")
    hparams.override_from_dict(sizes)
    return hparams


def read_encoder(path: Path, n_vocab: int) -> Any:
    """Load gpt-2-simple's encoder and check its files. A truncated vocab.bpe would load without an error and give wrong tokens."""
    try:
        bpe = encoder.get_encoder(str(path))
    except (ValueError, OSError) as error:
        raise UserError(f"{path}: encoder.json or vocab.bpe is not readable ({first_line(error)}); {REMEDY}") from None
    if END not in bpe.encoder or max(bpe.encoder.values()) >= n_vocab:
        raise UserError(f"{path}: encoder.json has {len(bpe.encoder)} tokens, but hparams.json says {n_vocab}; {REMEDY}")
    merged = {"".join(pair) for pair in bpe.bpe_ranks}
    single = {token for token in bpe.encoder if len(token) == 1 or (token[0] == "<" and token[-1] == ">")}  # bytes, <|endoftext|>
    if differ := (merged | single) ^ bpe.encoder.keys():
        raise UserError(f"{path}: vocab.bpe does not match encoder.json, {len(differ)} tokens are in only one of them; {REMEDY}")
    return bpe


def variable_shapes(hparams: Any) -> dict[str, list[int]]:
    """Names and shapes of the variables of gpt_2_simple.src.model."""
    width = hparams.n_embd
    shapes = {"model/wte": [hparams.n_vocab, width], "model/wpe": [hparams.n_ctx, width]}
    for norm in ("ln_f", *(f"h{layer}/{each}" for layer in range(hparams.n_layer) for each in ("ln_1", "ln_2"))):
        shapes |= {f"model/{norm}/g": [width], f"model/{norm}/b": [width]}
    for layer in range(hparams.n_layer):
        for name, rows, columns in (("attn/c_attn", 1, 3), ("attn/c_proj", 1, 1), ("mlp/c_fc", 1, 4), ("mlp/c_proj", 4, 1)):
            shapes |= {f"model/h{layer}/{name}/w": [1, rows * width, columns * width], f"model/h{layer}/{name}/b": [columns * width]}
    return shapes


def open_checkpoint(path: Path) -> tuple[Path, Any, Any]:
    """The path prefix, hparams and encoder of a checkpoint. Raises UserError if files are missing or inconsistent."""
    checkpoint, hparams = find_checkpoint(path), read_hparams(path)
    bpe = read_encoder(path, hparams.n_vocab)
    check_shapes(path, checkpoint, variable_shapes(hparams))
    return checkpoint, hparams, bpe


def check_shapes(path: Path, checkpoint: Path, expected: dict[str, list[int]]) -> None:
    """Raise UserError with the first variable that is missing or whose shape does not match hparams.json."""
    try:
        shapes = tf.train.load_checkpoint(str(checkpoint)).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {checkpoint.name} is damaged ({first_line(error)}); {REMEDY}") from None
    layers = {name.split("/")[1] for name in shapes if name.startswith("model/h")} - {name.split("/")[1] for name in expected}
    wrong = [f"{name} is {shapes.get(name, 'missing')}, expected {shape}" for name, shape in expected.items() if shapes.get(name) != shape]
    wrong += [f"unexpected layer {layer}" for layer in sorted(layers)]
    if wrong:
        raise UserError(f"{path}: hparams.json does not match {checkpoint.name}: {wrong[0]}; {REMEDY}")


def restore_weights(saver: Any, session: Any, checkpoint: Path) -> None:
    """Load the weights. Raises UserError if their file is truncated or damaged."""
    try:
        saver.restore(session, str(checkpoint))
    except tf.errors.ResourceExhaustedError:
        raise  # out of memory: handled by the caller
    except tf.errors.OpError as error:
        raise UserError(f"{checkpoint.parent}: {checkpoint.name} is damaged ({first_line(error)}); {REMEDY}") from None


# --- likelihood of given replies ----------------------------------------------------------------------------------------


def reply_perplexity(path: Path, rows: Sequence[LmRow], max_rows: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """The number of rows, and loss and perplexity (see Measure), for at most max_rows random rows.

    settings: those in the card, including the seed. Raises UserError if no row fits into the model's context.
    """
    checkpoint, hparams, bpe = open_checkpoint(path)
    encoded = encode_held_out(bpe, rows, max_rows, settings.get("seed", 0), hparams.n_ctx)
    if not encoded:
        raise UserError(f"{path}: no row has at most {hparams.n_ctx} tokens, so there is nothing to measure; prepare more data")
    return {"rows": len(encoded), **measure_checkpoint(hparams, bpe, checkpoint, encoded)}


def encode_held_out(bpe: Any, rows: Sequence[LmRow], max_rows: int, seed: int, max_tokens: int) -> list[Encoded]:
    """Encode a random sample of the rows as in training. Rows longer than max_tokens are skipped."""
    drawn = sample_rows(list(rows), max_rows, seed)
    encoded = [(encode_training_row(bpe, row.comment, row.reply), len(encode_prompt(bpe, row.comment, max_tokens))) for row in drawn]
    return [(ids, prompt) for ids, prompt in encoded if len(ids) <= max_tokens]


class Measure:
    """Measures the loss over held-out rows with the variables of the default graph, which are created if they do not exist."""

    def __init__(self, hparams: Any, bpe: Any):
        self.surplus = end_surplus(bpe)
        self.tokens = tf.compat.v1.placeholder(tf.int32, [None, None])  # (rows, time)
        self.parts = tf.compat.v1.placeholder(tf.float32, [2, None, None])  # (row or reply, rows, time - 1): 1 for counted tokens
        logits = model.model(hparams, self.tokens, reuse=tf.compat.v1.AUTO_REUSE)["logits"]
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.tokens[:, 1:], logits=logits[:, :-1])
        self.sums = tf.reduce_sum(nats * self.parts, axis=[1, 2])

    def __call__(self, session: Any, rows: Sequence[Encoded]) -> dict[str, float]:
        """loss: nats per token of the whole rows. perplexity: over the tokens of the reply, with its spelt end counted as one token."""
        nats = [0.0, 0.0]
        for batch in batches(rows):
            width = len(batch[0][0])
            tokens = [ids + [0] * (width - len(ids)) for ids, _ in batch]
            whole = [[1] * (len(ids) - 1) + [0] * (width - len(ids)) for ids, _ in batch]
            reply = [[0] * (prompt - 1) + [1] * (len(ids) - 1 - prompt) + [0] * (width - len(ids) + 1) for ids, prompt in batch]
            sums = session.run(self.sums, {self.tokens: tokens, self.parts: [whole, reply]})
            nats = [total + float(more) for total, more in zip(nats, sums, strict=True)]
        reply_tokens = sum(max(1, len(ids) - 1 - prompt - self.surplus) for ids, prompt in rows)
        perplexity = metrics.perplexity(nats[1] / reply_tokens)
        return {"loss": nats[0] / sum(len(ids) - 1 for ids, _ in rows), "perplexity": perplexity}


def batches(rows: Sequence[Encoded]) -> Iterator[list[Encoded]]:
    """Batches of at most BATCH_TOKENS tokens or one row, the longest rows first.

    >>> [len(batch) for batch in batches([([0] * 400, 9), ([0] * 300, 9), ([0] * 500, 9)])]
    [2, 1]
    """
    left = sorted(rows, key=lambda row: len(row[0]), reverse=True)
    while left:
        count = max(1, BATCH_TOKENS // len(left[0][0]))
        yield left[:count]
        left = left[count:]


def measure_checkpoint(hparams: Any, bpe: Any, checkpoint: Path, rows: Sequence[Encoded]) -> dict[str, float]:
    """Measure a checkpoint, see Measure."""
    with tf.Graph().as_default(), gpt_2_simple.start_tf_sess() as session:
        measure = Measure(hparams, bpe)
        restore_weights(tf.compat.v1.train.Saver(), session, checkpoint)
        return measure(session, rows)


def load(path: Path, _: Precision = "int8") -> GPT2Simple:
    return GPT2Simple(path)
