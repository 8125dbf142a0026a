"""train lm --backend keras-seq2seq: train an LSTM encoder–decoder with attention from random weights, in Keras.

Reads and writes: see train/encoder_decoder.py.

    python run_bot.py train lm --backend keras-seq2seq --data data/prepared --out models/seq2seq
    python run_bot.py train lm --backend keras-seq2seq --attention bahdanau --optimizer sgd --learning-rate 1 --decay 0.5 --out …
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Annotated, Any

import typer

from bot.train import encoder_decoder, loop
from bot.train.encoder_decoder import LIMITS as LIMITS
from bot.train.encoder_decoder import Dropout, EncoderDecoderOptions, Layers, Recipe, Width
from bot.train.options import LearningRate


class Attention(StrEnum):
    luong = "luong"
    bahdanau = "bahdanau"


class Optimizer(StrEnum):
    adam = "adam"
    sgd = "sgd"


@dataclass(frozen=True, kw_only=True)
class Options(EncoderDecoderOptions):
    learning_rate: LearningRate = 1e-3
    decoder_learning_rate: Annotated[
        float | None, typer.Option(min=0, help="peak learning rate of the decoder [default: --learning-rate]", show_default=False)
    ] = None
    optimizer: Annotated[Optimizer, typer.Option(help="adam: with warm-up and cosine decay; sgd: with --decay")] = Optimizer.adam
    decay: Annotated[float, typer.Option(min=0.01, max=1, help="sgd: factor of the learning rate after each epoch")] = 0.5
    width: Width = 256
    layers: Layers = 2
    units: Annotated[int, typer.Option(min=2, help="units of an LSTM layer; a bidirectional one has half of them in each direction")] = 512
    bidirectional: Annotated[bool, typer.Option(help="let the encoder read in both directions")] = True
    attention: Annotated[Attention, typer.Option(help="attention of the decoder")] = Attention.luong
    teacher_forcing: Annotated[
        float, typer.Option(min=0, max=1, help="share of true tokens that the decoder reads, reached linearly from 1 (scheduled sampling)")
    ] = 1.0
    dropout: Dropout = 0.2


def train(options: Options) -> None:
    """See encoder_decoder.train."""
    encoder_decoder.train(options, partial(recipe, options))


def recipe(options: Options) -> Recipe:
    from bot.generators.encoder_decoder import keras
    from bot.generators.keras_seq2seq import BACK_END, build

    def rate(step: int, epoch: int, steps: int, peak: float) -> float:
        return peak * options.decay**epoch if options.optimizer == Optimizer.sgd else loop.learning_rate_at(step, steps, peak)

    def groups(network: Any) -> list[tuple[list[Any], float]]:
        encoder = network.encoder_variables()
        ids = {id(variable) for variable in encoder}
        decoder = [variable for variable in network.trainable_variables if id(variable) not in ids]
        own = options.decoder_learning_rate
        return [(encoder, options.learning_rate), (decoder, options.learning_rate if own is None else own)]

    def forcing(step: int, steps: int) -> float:
        return 1 - (1 - options.teacher_forcing) * step / steps

    optimizer = keras.optimizers.SGD if options.optimizer == Optimizer.sgd else keras.optimizers.Adam
    return Recipe(BACK_END, build, optimizer, rate, groups, forcing=forcing)
