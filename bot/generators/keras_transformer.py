"""Generator back end `keras-transformer`: a Transformer encoder–decoder (Vaswani et al. 2017, arXiv:1706.03762), in Keras.

Reads a folder written by `train lm --backend keras-transformer`, see generators.encoder_decoder.

    BOT_GENERATE__BACKEND=keras-transformer BOT_GENERATE__MODEL=models/transformer python run_bot.py generate --in comments.csv --out c.csv

Layers are normalized before attention, which is stable at higher learning rates (Xiong et al. 2020, arXiv:2002.04745).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bot.config import Precision
from bot.generators import encoder_decoder
from bot.generators.encoder_decoder import PAD, EncoderDecoder, Network, keras, tf

BACK_END = "keras-transformer"


def positions(count: int, width: int) -> Any:
    """Sinusoidal encodings, (count, width): sines in the first half of the width, cosines in the second.

    >>> positions(2, 4).astype(float).round(3).tolist()
    [[0.0, 0.0, 1.0, 1.0], [0.841, 0.01, 0.54, 1.0]]
    """
    angles = np.arange(count)[:, None] / 10_000 ** (np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


class Attention(keras.layers.Layer):  # type: ignore[misc]
    """Multi-head attention whose keys and values can be computed once and kept. All of shape (rows, time, heads, width / heads)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.split = keras.layers.Reshape((-1, heads, width // heads))
        self.to_query, self.to_key, self.to_value, self.to_output = (keras.layers.Dense(width, use_bias=False) for _ in range(4))
        self.join = keras.layers.Reshape((-1, width))

    def keys_and_values(self, x: Any) -> list[Any]:
        return [self.split(self.to_key(x)), self.split(self.to_value(x))]

    def call(self, x: Any, keys_and_values: Any, mask: Any) -> Any:
        """x: (rows, time, width). mask: bool, (rows or 1, 1, time, time of the keys); True where it may attend."""
        attended = keras.ops.dot_product_attention(self.split(self.to_query(x)), *keys_and_values, mask=mask)
        return self.to_output(self.join(attended))


class Block(keras.layers.Layer):  # type: ignore[misc]
    """Attention to itself, in a decoder also to the source, and a feed-forward network, each with normalization and residual."""

    def __init__(self, width: int, heads: int, dropout: float, is_decoder: bool):
        super().__init__()
        layer = keras.layers
        self.own = Attention(width, heads)
        self.cross: Any = Attention(width, heads) if is_decoder else None
        self.feed_forward = keras.Sequential([layer.Dense(4 * width, activation="gelu"), layer.Dense(width)])
        self.norms = [layer.LayerNormalization(epsilon=1e-6) for _ in range(3 if is_decoder else 2)]
        self.dropout = layer.Dropout(dropout)

    def call(self, x: Any, mask: Any, past: Any = None, source: Any = None, source_mask: Any = None, training: bool = False) -> Any:
        """past: keys and values of earlier positions. Returns the output and the keys and values of all positions."""
        normed = self.norms[0](x)
        own = self.own.keys_and_values(normed)
        if past is not None:
            own = [tf.concat(pair, axis=1) for pair in zip(past, own, strict=True)]
        x = x + self.dropout(self.own(normed, own, mask), training=training)
        if self.cross is not None:
            x = x + self.dropout(self.cross(self.norms[1](x), source, source_mask), training=training)
        return x + self.dropout(self.feed_forward(self.norms[-1](x)), training=training), own


class Transformer(Network):
    """Memory: keys and values of the source for each layer, and its mask (rows, 1, 1, time). State: keys and values of the tokens."""

    def __init__(self, vocabulary: int, width: int, layers: int, heads: int, dropout: float, max_tokens: int):
        super().__init__(vocabulary, width)
        self.positions = tf.constant(positions(max_tokens + 4, width))  # + 4: batches are padded to a multiple of 4
        self.per_head = [heads, width // heads]
        self.encoders = [Block(width, heads, dropout, is_decoder=False) for _ in range(layers)]
        self.decoders = [Block(width, heads, dropout, is_decoder=True) for _ in range(layers)]
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-6) for _ in range(2)]
        self.dropout = keras.layers.Dropout(dropout)

    def placed(self, tokens: Any, first: Any, training: bool) -> Any:
        """Embeddings with positions, (rows, time) -> (rows, time, width). first: position of the first token."""
        return self.dropout(self.embed(tokens) + self.positions[first : first + tf.shape(tokens)[1]], training=training)

    def encode(self, source: Any, training: bool = False) -> Any:
        x, mask = self.placed(source, 0, training), tf.not_equal(source, PAD)[:, None, None, :]
        for block in self.encoders:
            x, _ = block(x, mask, training=training)
        x = self.norms[0](x)
        return [block.cross.keys_and_values(x) for block in self.decoders], mask

    def start(self, memory: Any) -> Any:
        empty = tf.zeros([tf.shape(memory[1])[0], 0, *self.per_head])
        return [[empty, empty] for _ in self.decoders]

    def decode(self, memory: Any, state: Any, tokens: Any, training: bool) -> tuple[Any, Any]:
        """The features after each of the tokens, (rows, time) -> (rows, time, width), and the new state."""
        sources, source_mask = memory
        before, time = tf.shape(state[0][0])[1], tf.shape(tokens)[1]
        mask = (tf.range(before + time)[None] <= before + tf.range(time)[:, None])[None, None]
        x, new = self.placed(tokens, before, training), []
        for block, past, source in zip(self.decoders, state, sources, strict=True):
            x, own = block(x, mask, past, source, source_mask, training=training)
            new.append(own)
        return self.norms[1](x), new

    def step(self, memory: Any, state: Any, tokens: Any) -> tuple[Any, Any]:
        features, state = self.decode(memory, state, tokens[:, None], False)
        return features[:, 0], state

    def call(self, source: Any, inputs: Any, training: bool = False) -> Any:
        """The features for predicting the token after each of the inputs, (rows, time, width)."""
        memory = self.encode(source, training)
        return self.decode(memory, self.start(memory), inputs, training)[0]


def build(settings: Mapping[str, Any]) -> Network:
    """settings: those of the card, and the size of the vocabulary."""
    return Transformer(**{name: settings[name] for name in ("vocabulary", "width", "layers", "heads", "dropout", "max_tokens")})


def load(path: Path, _: Precision = "int8") -> EncoderDecoder:
    """See encoder_decoder.load."""
    return encoder_decoder.load(path, BACK_END, build)


reply_perplexity = partial(encoder_decoder.reply_perplexity, load)
