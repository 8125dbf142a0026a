"""Prepare a causal language model for int8: scale activations so that a few large channels do not take all of the eight bits.

In int8 the engine rounds each vector of activations to 255 steps of its largest element. In language models a few channels are a hundred
times larger than the others, which are then rounded to almost nothing: the shipped generator's perplexity rises by 23 %. SmoothQuant (Xiao
et al. 2022, arXiv:2211.10438) divides every channel by a factor and multiplies the weights that read it by the same factor. The model
computes the same function. How much is moved from the activations to the weights is chosen at each place of the network: the strength at
which its rounded output differs least from the exact one (as Lin et al. 2023, arXiv:2306.00978, search theirs).

The activations are those of the comments and replies in calibration.tsv, which are invented.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

STRENGTHS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # 0: scale by the weights only, 1: by the activations only
MEASURED_TOKENS = 256
CALIBRATION = Path(__file__).with_name("calibration.tsv")


@dataclass
class Site:
    """A place in the network whose channels are scaled.

    scaled: tensors that produce the activations, channels first; they are divided by the factors. readers: the layers that read them.
    matrices: the readers' weights, (outputs, channels), or views of them. repeats: number of times that a produced channel is read
    (grouped-query attention copies each value head).
    """

    scaled: list[torch.Tensor]
    readers: list[torch.nn.Module]
    matrices: list[torch.Tensor]
    heads: tuple[int, int] = (1, 1)  # number of value heads, copies of each

    def shared(self, channels: torch.Tensor) -> torch.Tensor:
        """The maximum over the copies of each produced channel. channels: (read channels,) -> (produced channels,)."""
        groups, copies = self.heads
        return channels.view(groups, copies, -1).amax(1).reshape(-1)

    def copied(self, channels: torch.Tensor) -> torch.Tensor:
        """The inverse of `shared`: (produced channels,) -> (read channels,)."""
        groups, copies = self.heads
        return channels.view(groups, 1, -1).expand(groups, copies, -1).reshape(-1)


def smooth(model: Any, encode: Callable[[str, str], list[int]]) -> None:
    """Scale the activations of a transformers model in place. Architectures without an entry in SITES are not changed.

    encode: (comment, reply) -> ids of a training row.
    """
    find = SITES.get(model.config.model_type)
    if find is None:
        return
    with torch.no_grad():
        untie(model)
        sites = find(model)
        for site, read in zip(sites, activations(model, sites, encode), strict=True):
            factors = best_factors(site, read)
            for tensor in site.scaled:
                tensor /= factors.view(-1, *[1] * (tensor.dim() - 1))
            for matrix in site.matrices:
                matrix *= site.copied(factors)


def best_factors(site: Site, read: torch.Tensor) -> torch.Tensor:
    """The factor of each produced channel. read: activations, (tokens, read channels)."""
    weights = torch.cat(site.matrices)  # (outputs of all readers, read channels)
    exact = read @ weights.T
    largest, heaviest = (site.shared(each.abs().amax(0)).clamp(min=1e-5) for each in (read, weights))
    candidates = [largest**strength / heaviest ** (1 - strength) for strength in STRENGTHS]

    def error(factors: torch.Tensor) -> float:
        scale = site.copied(factors)
        return float(((rounded(read / scale) @ rounded(weights * scale).T - exact) ** 2).sum())

    return min(candidates, key=error)


def rounded(rows: torch.Tensor) -> torch.Tensor:
    """Each row rounded as the engine does: to 127 steps of its largest absolute value.

    >>> rounded(torch.tensor([[127.0, 0.4, -3.6]]))
    tensor([[127.,   0.,  -4.]])
    """
    step = rows.abs().amax(1, keepdim=True).clamp(min=1e-8) / 127
    return (rows / step).round() * step


def untie(model: Any) -> None:
    """Give the output layer its own copy of the embeddings, because only the output layer is scaled."""
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    model.config.tie_word_embeddings = False


def activations(model: Any, sites: list[Site], encode: Callable[[str, str], list[int]]) -> list[torch.Tensor]:
    """For each site what its readers read, (tokens, read channels), at MEASURED_TOKENS positions drawn at random."""
    read: list[list[torch.Tensor]] = [[] for _ in sites]
    with CALIBRATION.open(encoding="utf-8", newline="") as file:
        rows = [encode(row["comment"], row["reply"]) for row in csv.DictReader(file, delimiter="\t")]
    with ExitStack() as stack:
        for own, site in zip(read, sites, strict=True):
            hook = site.readers[0].register_forward_pre_hook(lambda _, inputs, own=own: own.append(inputs[0][0].detach().clone()))
            stack.callback(hook.remove)
        for ids in rows:
            model(input_ids=torch.tensor([ids]))
    drawn = torch.randperm(sum(map(len, rows)), generator=torch.Generator().manual_seed(1))[:MEASURED_TOKENS]
    return [torch.cat(own)[drawn] for own in read]


def llama_sites(model: Any) -> list[Site]:
    sites = []
    for layer in model.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        into = [attention.q_proj, attention.k_proj, attention.v_proj]
        sites.append(Site([layer.input_layernorm.weight], into, [each.weight for each in into]))
        values = [attention.v_proj.weight, *([attention.v_proj.bias] if attention.v_proj.bias is not None else [])]
        heads = model.config.num_key_value_heads
        copies = model.config.num_attention_heads // heads
        sites.append(Site(values, [attention.o_proj], [attention.o_proj.weight], (heads, copies)))
        into = [mlp.gate_proj, mlp.up_proj]
        sites.append(Site([layer.post_attention_layernorm.weight], into, [each.weight for each in into]))
        values = [mlp.up_proj.weight, *([mlp.up_proj.bias] if mlp.up_proj.bias is not None else [])]
        sites.append(Site(values, [mlp.down_proj], [mlp.down_proj.weight]))
    return [*sites, Site([model.model.norm.weight], [model.lm_head], [model.lm_head.weight])]


def gpt2_sites(model: Any) -> list[Site]:
    """Only after layer norms: GELU does not commute with scaling."""
    pairs = [
        (norm, layer) for block in model.transformer.h for norm, layer in ((block.ln_1, block.attn.c_attn), (block.ln_2, block.mlp.c_fc))
    ]
    sites = [Site([norm.weight, norm.bias], [layer], [layer.weight.T]) for norm, layer in pairs]  # Conv1D stores (channels, outputs)
    return [*sites, Site([model.transformer.ln_f.weight, model.transformer.ln_f.bias], [model.lm_head], [model.lm_head.weight])]


SITES = {"llama": llama_sites, "mistral": llama_sites, "gpt2": gpt2_sites}
