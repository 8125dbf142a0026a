"""Generator back end `transformers`: any causal language model as a transformers folder, or a LoRA adapter with its base.

`encode_prompt` and `encode_training_row` are what train_lm uses too: start token, prompt, reply, end token, and the prompt's ids are a
prefix of the training row's.

A model of gpt-2-simple's that `models convert` made such a folder of has learnt its start and end as ordinary text, joined to what stands
beside it. Its tokenizer_config.json says so (`spelt_start`, `spelt_end`), and then they are spelt here too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from bot import text
from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.generators import shortened, stream_seed
from bot.schema import Candidate, LmRow, sample_rows
from bot.weights import loading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORED_TOGETHER = 8  # rows of log_likelihoods


def start_and_end(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Ids of the token before each row and of the one after it (one and the same for GPT-2)."""
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no end token; use a causal language model")
    return (end if tokenizer.bos_token_id is None else tokenizer.bos_token_id), end


def spelt_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The texts before and after each row, both empty where tokens of their own (`start_and_end`) stand there."""
    return tokenizer.init_kwargs.get("spelt_start", ""), tokenizer.init_kwargs.get("spelt_end", "")


def encode_prompt(tokenizer: PreTrainedTokenizerBase, comment: str, most_tokens: int) -> list[int]:
    """Start and prompt. Of a prompt longer than `most_tokens` the comment's end is cut, never the separator."""
    spelt, _ = spelt_ends(tokenizer)
    start = [] if spelt else [start_and_end(tokenizer)[0]]
    whole = [*start, *_plain(tokenizer, spelt + text.format_prompt(comment))]
    return shortened(whole, _plain(tokenizer, text.format_prompt("")), most_tokens)


def encode_training_row(tokenizer: PreTrainedTokenizerBase, comment: str, reply: str, most_prompt_tokens: int) -> tuple[list[int], int]:
    """Ids of start, prompt, reply, end; and how many of them are the prompt's."""
    prompt = encode_prompt(tokenizer, comment, most_prompt_tokens)
    _, spelt = spelt_ends(tokenizer)
    whole = _plain(tokenizer, text.format_training_text(comment, reply) + spelt)
    tail = whole[len(_plain(tokenizer, text.format_prompt(comment))) :]
    return [*prompt, *tail, *([] if spelt else [start_and_end(tokenizer)[1]])], len(prompt)


def _plain(tokenizer: PreTrainedTokenizerBase, written: str) -> list[int]:
    """Ids of a text in which no control token is meant."""
    ids: list[int] = tokenizer(written, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def load_model(path: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """See models.load."""
    return loading.load(path, AutoModelForCausalLM)


class _Nucleus(LogitsProcessor):
    """Repetition penalty (Keskar et al. 2019, arXiv:1909.05858; of what the row has written), least length, temperature, top-k and nucleus
    sampling (Holtzman et al. 2020, arXiv:1904.09751) with a random stream of its own for every row.

    What is drawn is left as the one finite logit, so that generate() runs greedily and a row's draw depends on its own seed alone, not
    on what else is in the batch (but for rounding: two tokens that are equally likely to six digits may change places). Also sums the
    log-likelihood of what is drawn under the model itself, before all of these.
    """

    def __init__(self, seeds: Sequence[int], settings: GenerateSettings, tokenizer: PreTrainedTokenizerBase, width: int):
        """width: tokens of the prompts, padding counted in."""
        self.streams = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.settings, self.tokenizer, self.width = settings, tokenizer, width
        _, self.end = start_and_end(tokenizer)
        _, self.spelt_end = spelt_ends(tokenizer)
        self.log_likelihood = torch.zeros(len(seeds))
        self.tokens = torch.zeros(len(seeds), dtype=torch.long)
        self.ended = torch.zeros(len(seeds), dtype=torch.bool)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        if self.spelt_end:
            recent = self.tokenizer.batch_decode(input_ids[:, -len(self.spelt_end) :])
            self.ended |= torch.tensor([written.endswith(self.spelt_end) for written in recent])
        logits = scores.float()  # (rows, vocabulary)
        adjusted = self.adjusted(logits, input_ids[:, self.width :])
        top, tokens = adjusted.topk(min(self.settings.top_k, logits.shape[1]))  # (rows, top_k), the likeliest first
        probability = torch.softmax(top / self.settings.temperature, dim=-1)
        before = probability.cumsum(dim=-1) - probability
        nucleus = torch.where(before < self.settings.top_p, probability, 0.0)
        # the arg max of p / Exponential(1) is a draw from p (the Gumbel-max trick)
        waits = torch.stack([torch.empty(top.shape[1]).exponential_(generator=stream) for stream in self.streams])
        place = (nucleus / waits.to(nucleus.device)).argmax(dim=-1, keepdim=True)
        drawn = tokens.gather(1, place)
        likelihood = (logits.gather(1, drawn) - logits.logsumexp(dim=-1, keepdim=True))[:, 0].cpu()
        self.log_likelihood += torch.where(self.ended, 0.0, likelihood)
        self.tokens += ~self.ended
        drawn = torch.where(self.ended[:, None].to(drawn.device), self.end, drawn)  # what tells generate() of a spelt end
        self.ended |= (drawn[:, 0] == self.end).cpu()
        return torch.full_like(logits, -torch.inf).scatter(1, drawn, 0.0)  # type: ignore[return-value]

    def adjusted(self, logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """The logits with the repetition penalty, and without the end where it comes too early."""
        penalty = self.settings.repetition_penalty
        if penalty != 1:
            seen = logits.gather(1, written)
            logits = logits.scatter(1, written, torch.where(seen < 0, seen * penalty, seen / penalty))
        if written.shape[1] < self.settings.min_new_tokens:
            logits = logits.clone()
            logits[:, self.end] = -torch.inf
        return logits


class Transformers:
    def __init__(self, path: Path):
        self.model, self.tokenizer = load_model(path)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self.device)
        self.name = f"transformers:{path.name}"

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. A batch is settings.batch_size candidates, or one comment's, padded on the left."""
        _, end = start_and_end(self.tokenizer)
        _, spelt_end = spelt_ends(self.tokenizer)
        if settings.min_new_tokens and spelt_end:
            raise UserError(f"generate.min_new_tokens: {self.name} spells its end in ordinary tokens, which can't be put off; set it to 0")
        count = settings.num_candidates
        together = max(1, settings.batch_size // count)
        for first in range(0, len(comments), together):
            batch = comments[first : first + together]
            prompts = [encode_prompt(self.tokenizer, comment, settings.max_prompt_tokens) for _, comment in batch]
            width = max(map(len, prompts))
            ids = torch.tensor([[end] * (width - len(prompt)) + prompt for prompt in prompts]).repeat_interleave(count, 0)
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]).repeat_interleave(count, 0)
            seeds = [stream_seed(seed, index, comment) for _, comment in batch for index in range(count)]
            nucleus = _Nucleus(seeds, settings, self.tokenizer, width)
            with torch.inference_mode():
                output: Any = self.model.generate(
                    input_ids=ids.to(self.device),
                    attention_mask=mask.to(self.device),
                    do_sample=False,
                    max_new_tokens=settings.max_new_tokens,
                    logits_processor=LogitsProcessorList([nucleus]),
                    eos_token_id=end,
                    pad_token_id=end,
                )
            written = output[:, width:].cpu()
            candidates = []
            for row, (comment_id, comment) in enumerate(entry for entry in batch for _ in range(count)):
                tokens = written[row, : int(nucleus.tokens[row])].tolist()
                decoded = str(self.tokenizer.decode([token for token in tokens if token != end]))
                # a spelt end counts as one token: else a short reply would be rated by its end
                surplus = len(_plain(self.tokenizer, spelt_end)) - 1 if spelt_end and decoded.endswith(spelt_end) else 0
                mean = float(nucleus.log_likelihood[row]) / max(1, len(tokens) - surplus)
                reply = text.parse_reply(decoded)
                candidates.append(Candidate(comment_id, f"{comment_id}-{row % count}", seeds[row], comment, reply, self.name, mean))
            for start in range(0, len(candidates), count):
                yield candidates[start : start + count]

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]], settings: GenerateSettings) -> list[float]:
        """Mean log-likelihood (nats) per token of each reply and its end, given the comment.

        What `sample` gives for the same text; but a candidate that was cut at max_new_tokens has no end, and none counts there. A reply
        that goes beyond the model's context is cut there.
        """
        _, spelt_end = spelt_ends(self.tokenizer)
        surplus = len(_plain(self.tokenizer, spelt_end)) - 1 if spelt_end else 0  # as in `sample`
        context = self.model.config.max_position_embeddings
        most = min(settings.max_prompt_tokens, context - 1)
        whole = [encode_training_row(self.tokenizer, comment, reply, most) for comment, reply in pairs]
        rows = [(tokens[:context], prompt) for tokens, prompt in whole]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        result = [0.0] * len(rows)
        with torch.inference_mode():
            for start in range(0, len(order), SCORED_TOGETHER):
                batch = order[start : start + SCORED_TOGETHER]
                width = max(len(rows[row][0]) for row in batch)
                ids = torch.tensor([rows[row][0] + [0] * (width - len(rows[row][0])) for row in batch], device=self.device)
                mask = torch.tensor([[1] * len(rows[row][0]) + [0] * (width - len(rows[row][0])) for row in batch], device=self.device)
                hidden = getattr(self.model, self.model.base_model_prefix)(input_ids=ids, attention_mask=mask).last_hidden_state
                for place, row in enumerate(batch):
                    tokens, prompt = rows[row]
                    # the output layer, a fifth of a small model's work, is run at the reply's positions only
                    logits = self.model.get_output_embeddings()(hidden[place, prompt - 1 : len(tokens) - 1]).float()  # (time, vocabulary)
                    reply = torch.tensor(tokens[prompt:], device=self.device)
                    total = -torch.nn.functional.cross_entropy(logits, reply, reduction="sum")
                    result[row] = float(total) / (len(reply) - (surplus if len(whole[row][0]) <= context else 0))
        return result


def reply_perplexity(path: Path, rows: Sequence[LmRow], most_rows: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """rows and perplexity, over the tokens of the reply and its end, of up to most_rows rows drawn at random.

    settings: of the card; rows of more than its max_tokens are left out. Raises UserError where all are.
    """
    generator, most, seed = Transformers(path), settings.get("max_tokens", 96), settings.get("seed", 0)
    drawn = sample_rows(list(rows), 3 * most_rows, seed)
    encoded = [(row, *encode_training_row(generator.tokenizer, row.comment, row.reply, most)) for row in drawn]
    kept = sample_rows([(row, len(ids) - prompt) for row, ids, prompt in encoded if len(ids) <= most], most_rows, seed)
    if not kept:
        raise UserError(f"no row of at most {most} tokens to measure; prepare more data")
    _, spelt_end = spelt_ends(generator.tokenizer)
    surplus = len(_plain(generator.tokenizer, spelt_end)) - 1 if spelt_end else 0
    tokens = [count - surplus for _, count in kept]
    means = generator.log_likelihoods([(row.comment, row.reply) for row, _ in kept], GenerateSettings(max_prompt_tokens=most))
    nats = -sum(mean * count for mean, count in zip(means, tokens, strict=True))
    return {"rows": len(kept), "perplexity": math.exp(nats / sum(tokens))}


def load(path: Path, _: Precision = "int8") -> Transformers:
    return Transformers(path)
