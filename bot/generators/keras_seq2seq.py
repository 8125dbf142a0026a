"""Generator back end `keras-seq2seq`: LSTM encoder and decoder with attention (Sutskever et al. 2014, arXiv:1409.3215), in Keras.

Reads a folder written by `train lm --backend keras-seq2seq`, see generators.encoder_decoder.

    BOT_GENERATE__BACKEND=keras-seq2seq BOT_GENERATE__MODEL=models/seq2seq python run_bot.py generate --in comments.csv --out c.csv
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bot.config import Precision
from bot.generators import encoder_decoder
from bot.generators.encoder_decoder import NEVER, PAD, START, EncoderDecoder, Network, keras, tf

BACK_END = "keras-seq2seq"


class Seq2Seq(Network):
    """`attention` luong: general scores after the cells, with input feeding (Luong et al. 2015, arXiv:1508.04025); bahdanau: additive
    scores before them (Bahdanau et al. 2015, arXiv:1409.0473).

    Memory: outputs (rows, time, units), keys (rows, time, units), bias (rows, time), and the decoder's first state.
    State: the last features (rows, width), and hidden and cell state of each layer (rows, units).
    """

    def __init__(self, vocabulary: int, width: int, units: int, layers: int, bidirectional: bool, attention: str, dropout: float):
        super().__init__(vocabulary, width)
        layer, self.is_luong = keras.layers, attention == "luong"
        self.directions = 2 if bidirectional else 1
        lstms = [layer.LSTM(units // self.directions, return_sequences=True, return_state=True) for _ in range(layers)]
        self.encoders = [layer.Bidirectional(each) for each in lstms] if bidirectional else lstms
        self.bridges = [layer.Dense(units, activation="tanh") for _ in range(2 * layers)]
        self.cells = [layer.LSTMCell(units) for _ in range(layers)]
        self.to_keys, self.to_query = layer.Dense(units, use_bias=False), None if self.is_luong else layer.Dense(units)
        self.to_score = None if self.is_luong else layer.Dense(1, use_bias=False)
        self.to_features = layer.Dense(width, activation="tanh")
        self.dropout = layer.Dropout(dropout)

    def encoder_variables(self) -> list[Any]:
        """The trainable variables that the encoder uses, and the embedding."""
        return [variable for part in (self.embedding, *self.encoders, *self.bridges) for variable in part.trainable_variables]

    def encode(self, source: Any, training: bool = False) -> Any:
        outputs, mask, first = self.embed(source), tf.not_equal(source, PAD), []
        for number, layer in enumerate(self.encoders):
            outputs, *states = layer(self.dropout(outputs, training=training), mask=mask)
            parts = [tf.concat(states[kind::2], axis=1) for kind in range(2)]  # hidden and cell state, of each direction
            first.append([bridge(part) for bridge, part in zip(self.bridges[2 * number : 2 * number + 2], parts, strict=True)])
        return outputs, self.to_keys(outputs), NEVER * (1 - tf.cast(mask, tf.float32)), first

    def start(self, memory: Any) -> Any:
        outputs, *_, first = memory
        return tf.zeros([tf.shape(outputs)[0], self.to_features.units]), first

    def attend(self, memory: Any, query: Any) -> Any:
        """The mean of the outputs, weighted by their scores for the query: (rows, units) -> (rows, units)."""
        outputs, keys, bias, _ = memory
        if self.to_query is None or self.to_score is None:
            scores = tf.einsum("rtu,ru->rt", keys, query)
        else:
            scores = self.to_score(tf.tanh(keys + self.to_query(query)[:, None]))[..., 0]
        return tf.einsum("rt,rtu->ru", tf.nn.softmax(scores + bias), outputs)

    def advance(self, memory: Any, state: Any, embedded: Any) -> tuple[Any, Any]:
        """`step` for embedded tokens, (rows, width)."""
        features, layers = state
        context = features if self.is_luong else self.attend(memory, layers[-1][0])
        output, new = tf.concat([embedded, context], axis=1), []
        for cell, states in zip(self.cells, layers, strict=True):
            output, states = cell(output, states)
            new.append(states)
        context = self.attend(memory, output) if self.is_luong else context
        features = self.to_features(tf.concat([output, context], axis=1))
        return features, (features, new)

    def step(self, memory: Any, state: Any, tokens: Any) -> tuple[Any, Any]:
        return self.advance(memory, state, self.embed(tokens))

    def call(self, source: Any, inputs: Any, true: Any = None, training: bool = False) -> Any:
        """The features for predicting the token after each of the inputs, (rows, time, width).

        true: bool (rows, time), for scheduled sampling (Bengio et al. 2015, arXiv:1506.03099): where it is False, the decoder reads the
        token that it finds most likely itself instead of the input.
        """
        memory = self.encode(source, training)
        by_time = [1, 0, 2]  # (rows, time, width) -> (time, rows, width), and back
        if true is None:
            embedded = tf.transpose(self.dropout(self.embed(inputs), training=training), by_time)
            features, _ = tf.scan(lambda state, each: self.advance(memory, state, each)[1], embedded, self.start(memory))
        else:
            scale = tf.transpose(self.dropout(tf.ones([*tf.unstack(tf.shape(inputs)), self.to_features.units]), training=training), by_time)

            def sampled(carry: Any, each: Any) -> Any:
                (state, own), (given, is_true, scale) = carry, each
                features, state = self.advance(memory, state, self.embed(tf.where(is_true, given, own)) * scale)
                return state, tf.argmax(self.logits(features), axis=1, output_type=tf.int32)

            first = self.start(memory), tf.fill(tf.shape(inputs)[:1], START)
            (features, _), _ = tf.scan(sampled, (tf.transpose(inputs), tf.transpose(true), scale), first)
        return self.dropout(tf.transpose(features, by_time), training=training)


def build(settings: Mapping[str, Any]) -> Network:
    """settings: those of the card, and the size of the vocabulary."""
    names = ("vocabulary", "width", "units", "layers", "bidirectional", "attention", "dropout")
    return Seq2Seq(**{name: settings[name] for name in names})


def load(path: Path, _: Precision = "int8") -> EncoderDecoder:
    """See encoder_decoder.load."""
    return encoder_decoder.load(path, BACK_END, build)


reply_perplexity = partial(encoder_decoder.reply_perplexity, load)
