"""train lm --backend keras-transformer: train a Transformer encoder–decoder from random weights, in Keras.

Reads and writes: see train/encoder_decoder.py.

    python run_bot.py train lm --backend keras-transformer --data data/prepared --out models/transformer
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from bot.cli import UserError
from bot.train import encoder_decoder
from bot.train.encoder_decoder import LIMITS as LIMITS
from bot.train.encoder_decoder import Dropout, EncoderDecoderOptions, Layers, Recipe, Width
from bot.train.options import Epochs, LearningRate


@dataclass(frozen=True, kw_only=True)
class Options(EncoderDecoderOptions):
    epochs: Epochs = 5
    learning_rate: LearningRate = 1e-3
    warmup: Annotated[int, typer.Option(min=1, help="steps until the peak learning rate, which then falls with the root of the step")] = (
        2000
    )
    width: Width = 256
    layers: Layers = 4
    heads: Annotated[int, typer.Option(min=1, help="attention heads; --width is a multiple of twice of it")] = 4
    label_smoothing: Annotated[float, typer.Option(min=0, max=0.9, help="probability spread over all other tokens")] = 0.1
    dropout: Dropout = 0.1


def rate(step: int, warmup: int, peak: float) -> float:
    """Linear warm-up, then decay with the inverse square root of the step (Vaswani et al. 2017, arXiv:1706.03762, section 5.3).

    >>> [rate(step - 1, 100, 1.0) for step in (50, 100, 400)]
    [0.5, 1.0, 0.5]
    """
    return peak * min((step + 1) / warmup, (warmup / (step + 1)) ** 0.5)


def train(options: Options) -> None:
    """See encoder_decoder.train."""
    if options.width % (2 * options.heads):
        raise UserError(f"--width {options.width} is not a multiple of twice --heads {options.heads}; change one of them")
    encoder_decoder.train(options, partial(recipe, options))


def recipe(options: Options) -> Recipe:
    from bot.generators.encoder_decoder import keras
    from bot.generators.keras_transformer import BACK_END, build

    return Recipe(
        back_end=BACK_END,
        build=build,
        optimizer=lambda: keras.optimizers.Adam(beta_2=0.98, epsilon=1e-9),
        rate=lambda step, epoch, steps, peak: rate(step, options.warmup, peak),
        groups=lambda network: [(network.trainable_variables, options.learning_rate)],
        smoothing=options.label_smoothing,
    )
