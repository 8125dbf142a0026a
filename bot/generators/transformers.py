"""Generator back end `transformers`: any causal language model as a transformers folder, or a LoRA adapter with its base.

Training uses the same `encode_prompt` and `encode_training_row`: start token, prompt, reply, end token. The ids of the prompt are a prefix
of those of the training row.

Models converted from gpt-2-simple have no start and end tokens: they were trained with both spelled out as ordinary text. These texts are
in tokenizer_config.json (`spelt_start`, `spelt_end`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

from bot import metrics, text
from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.generators import prompt_room, stream_seed, truncate
from bot.schema import Candidate, LmRow, sample_rows
from bot.weights import loading

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORING_BATCH = 8  # rows, in log_likelihoods
RELATIVE_CONTEXT = 2048  # tokens, for a model without a limit in its config


def start_and_end(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """The ids of the start token and the end token (the same for GPT-2)."""
    end = tokenizer.eos_token_id
    if end is None:
        raise UserError(f"{tokenizer.name_or_path}: the tokenizer has no end token; use a causal language model")
    return (end if tokenizer.bos_token_id is None else tokenizer.bos_token_id), end


def spelt_ends(tokenizer: PreTrainedTokenizerBase) -> tuple[str, str]:
    """The texts before and after each row. Both are empty for models with start and end tokens (`start_and_end`)."""
    return tokenizer.init_kwargs.get("spelt_start", ""), tokenizer.init_kwargs.get("spelt_end", "")


def encode_prompt(tokenizer: PreTrainedTokenizerBase, comment: str, max_tokens: int) -> list[int]:
    """The ids of start and prompt. If they exceed `max_tokens`, the comment is truncated, but the separator is kept."""
    spelt, _ = spelt_ends(tokenizer)
    start = [] if spelt else [start_and_end(tokenizer)[0]]
    prompt = [*start, *_encode(tokenizer, spelt + text.format_prompt(comment))]
    return truncate(prompt, _encode(tokenizer, text.format_prompt("")), max_tokens)


def encode_training_row(tokenizer: PreTrainedTokenizerBase, comment: str, reply: str, max_prompt_tokens: int) -> tuple[list[int], int]:
    """The ids of start, prompt, reply and end, and the number of ids in start and prompt."""
    prompt = encode_prompt(tokenizer, comment, max_prompt_tokens)
    _, spelt = spelt_ends(tokenizer)
    row = _encode(tokenizer, text.format_training_text(comment, reply) + spelt)
    tail = row[len(_encode(tokenizer, text.format_prompt(comment))) :]
    return [*prompt, *tail, *([] if spelt else [start_and_end(tokenizer)[1]])], len(prompt)


def _encode(tokenizer: PreTrainedTokenizerBase, body: str) -> list[int]:
    """The ids of a text. Control tokens in the text are encoded as ordinary text."""
    ids: list[int] = tokenizer(body, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return ids


def load_model(path: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """See loading.load."""
    return loading.load(path, AutoModelForCausalLM)


def has_plain_output(model: Any) -> bool:
    """True if the model's logits are those of its output layer. Granite, Cohere and Gemma 2 scale or cap them afterwards."""
    base, layer = getattr(model, model.base_model_prefix, None), model.get_output_embeddings()
    if base is None or layer is None:
        return False
    training = model.training
    model.eval()
    with torch.no_grad():
        ids = torch.arange(8, device=next(model.parameters()).device)[None] % model.config.get_text_config().vocab_size
        mask = torch.ones_like(ids)
        own = model(input_ids=ids, attention_mask=mask).logits
        short = layer(base(input_ids=ids, attention_mask=mask).last_hidden_state)
    model.train(training)
    return own.shape == short.shape and bool(torch.allclose(own.float(), short.float(), rtol=1e-2, atol=1e-2))


def logits_at(model: Any, ids: torch.Tensor, mask: torch.Tensor, places: torch.Tensor, plain: bool) -> torch.Tensor:
    """The model's own logits at these places, (places, vocabulary), in order. places: (batch, time), bool.

    plain: see has_plain_output. Then the output layer, a fifth of a small model's work, runs only at the places.
    """
    if not plain:
        own: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits[places]
        return own
    hidden = getattr(model, model.base_model_prefix)(input_ids=ids, attention_mask=mask).last_hidden_state  # (batch, time, width)
    result: torch.Tensor = model.get_output_embeddings()(hidden[places])
    return result


class Nucleus(LogitsProcessor):
    """Sampling with a separate random stream for each row: repetition penalty on the generated tokens (Keskar et al. 2019,
    arXiv:1909.05858), minimum length, temperature, top-k and nucleus (Holtzman et al. 2020, arXiv:1904.09751).

    All logits except that of the drawn token are set to -inf, so generate() can run greedily. A row depends only on its own seed and not on
    the rest of the batch, except for rounding: two tokens with probabilities equal to six digits may be swapped. Also sums the
    log-likelihood of the drawn tokens under the unmodified model.
    """

    def __init__(self, seeds: Sequence[int], settings: GenerateSettings, tokenizer: PreTrainedTokenizerBase, width: int):
        """width: length of the prompts in tokens, including padding."""
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
            self.ended |= torch.tensor([body.endswith(self.spelt_end) for body in recent])
        logits = scores.float()  # (rows, vocabulary)
        adjusted = self.adjusted(logits, input_ids[:, self.width :])
        top, tokens = adjusted.topk(min(self.settings.top_k, logits.shape[1]))  # (rows, top_k), sorted by probability
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
        drawn = torch.where(self.ended[:, None].to(drawn.device), self.end, drawn)  # lets generate() stop after a spelt end
        self.ended |= (drawn[:, 0] == self.end).cpu()
        return torch.full_like(logits, -torch.inf).scatter(1, drawn, 0.0)  # type: ignore[return-value]

    def adjusted(self, logits: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """The logits with repetition penalty and minimum length applied. generated: ids of the generated tokens, (rows, time)."""
        penalty = self.settings.repetition_penalty
        if penalty != 1:
            repeated = logits.gather(1, generated)
            logits = logits.scatter(1, generated, torch.where(repeated < 0, repeated * penalty, repeated / penalty))
        if generated.shape[1] < self.settings.min_new_tokens:
            logits = logits.clone()
            logits[:, self.end] = -torch.inf
        return logits


def context_length(settings: Any) -> int:
    """The number of tokens that a model takes, from its config. Models with relative positions, such as BLOOM, have no limit of their own.

    >>> from transformers import BloomConfig, GPT2Config
    >>> context_length(GPT2Config(n_positions=64)), context_length(BloomConfig())
    (64, 2048)
    """
    limits = (getattr(settings, name, None) for name in ("max_position_embeddings", "max_seq_len"))
    return next((int(limit) for limit in limits if limit and limit > 0), RELATIVE_CONTEXT)


class Transformers:
    def __init__(self, path: Path):
        self.model, self.tokenizer = load_model(path)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model.to(self.device)
        self.name = f"transformers:{path.name}"

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. A batch has settings.batch_size candidates, or those of one comment, padded on the left."""
        count = settings.num_candidates
        batch_comments = max(1, settings.batch_size // count)
        maximum = self.prompt_room(settings)
        for first in range(0, len(comments), batch_comments):
            rows = [(*each, index) for each in comments[first : first + batch_comments] for index in range(count)]
            candidates = self.batch(rows, settings, seed, maximum)
            for start in range(0, len(candidates), count):
                yield candidates[start : start + count]

    def stream(self, comment_id: str, comment: str, settings: GenerateSettings, seed: int) -> Iterator[Candidate]:
        """See generators.Generator. The candidates are drawn one by one."""
        maximum = self.prompt_room(settings)
        for index in range(settings.num_candidates):
            yield from self.batch([(comment_id, comment, index)], settings, seed, maximum)

    def prompt_room(self, settings: GenerateSettings) -> int:
        """The maximum number of prompt tokens. Raises UserError if there is no room, or the model does not support min_new_tokens."""
        if settings.min_new_tokens and spelt_ends(self.tokenizer)[1]:
            raise UserError(f"generate.min_new_tokens: {self.name} has no end token and does not support it; set it to 0")
        context = context_length(self.model.config)
        return prompt_room(settings, context, len(encode_prompt(self.tokenizer, "", context)) + 1)

    def batch(self, rows: Sequence[tuple[str, str, int]], settings: GenerateSettings, seed: int, maximum: int) -> list[Candidate]:
        """Draw a candidate for each (comment_id, comment, index of the candidate). maximum: of prompt tokens."""
        _, end = start_and_end(self.tokenizer)
        _, spelt_end = spelt_ends(self.tokenizer)
        prompts = [encode_prompt(self.tokenizer, comment, maximum) for _, comment, _ in rows]
        width = max(map(len, prompts))
        ids = torch.tensor([[end] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        seeds = [stream_seed(seed, index, comment) for _, comment, index in rows]
        nucleus = Nucleus(seeds, settings, self.tokenizer, width)
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
        generated = output[:, width:].cpu()
        candidates = []
        for row, (comment_id, comment, index) in enumerate(rows):
            tokens = generated[row, : int(nucleus.tokens[row])].tolist()
            decoded = str(self.tokenizer.decode([token for token in tokens if token != end]))
            # count a spelt end as one token; otherwise it would dominate the mean of a short reply
            surplus = len(_encode(self.tokenizer, spelt_end)) - 1 if spelt_end and decoded.endswith(spelt_end) else 0
            mean = float(nucleus.log_likelihood[row]) / max(1, len(tokens) - surplus)
            reply = text.parse_reply(decoded)
            candidates.append(Candidate(comment_id, f"{comment_id}-{index}", seeds[row], comment, reply, self.name, mean))
        return candidates

    def token_counts(self, pairs: Sequence[tuple[str, str]]) -> list[int]:
        """The number of tokens of each reply and its end, over which `log_likelihoods` takes the mean. A spelt end counts as one token.

        Replies are not truncated.
        """
        _, spelt_end = spelt_ends(self.tokenizer)
        surplus = len(_encode(self.tokenizer, spelt_end)) - 1 if spelt_end else 0
        context = context_length(self.model.config)
        encoded = [encode_training_row(self.tokenizer, comment, reply, context) for comment, reply in pairs]
        return [len(row) - prompt - surplus for row, prompt in encoded]

    def log_likelihoods(self, pairs: Sequence[tuple[str, str]], settings: GenerateSettings) -> list[float]:
        """The mean log-likelihood per token (nats) of each reply and its end, given the comment.

        The same value as in `sample` for the same text, except for candidates truncated at max_new_tokens, which have no end. Replies are
        truncated at the model's context.
        """
        _, spelt_end = spelt_ends(self.tokenizer)
        surplus = len(_encode(self.tokenizer, spelt_end)) - 1 if spelt_end else 0  # as in `sample`
        context = context_length(self.model.config)
        max_prompt = min(settings.max_prompt_tokens, context - 1)
        encoded = [encode_training_row(self.tokenizer, comment, reply, max_prompt) for comment, reply in pairs]
        rows = [(tokens[:context], prompt) for tokens, prompt in encoded]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        plain = has_plain_output(self.model)
        result = [0.0] * len(rows)
        with torch.inference_mode():
            for start in range(0, len(order), SCORING_BATCH):
                batch = order[start : start + SCORING_BATCH]
                width = max(len(rows[row][0]) for row in batch)
                ids = torch.tensor([rows[row][0] + [0] * (width - len(rows[row][0])) for row in batch], device=self.device)
                mask = torch.tensor([[1] * len(rows[row][0]) + [0] * (width - len(rows[row][0])) for row in batch], device=self.device)
                before_reply = torch.zeros_like(mask, dtype=torch.bool)
                for place, row in enumerate(batch):
                    before_reply[place, rows[row][1] - 1 : len(rows[row][0]) - 1] = True
                logits = logits_at(self.model, ids, mask, before_reply, plain)
                parts = logits.float().split(before_reply.sum(1).tolist())
                for row, of_row in zip(batch, parts, strict=True):
                    reply = torch.tensor(rows[row][0][rows[row][1] :], device=self.device)
                    total = -torch.nn.functional.cross_entropy(of_row, reply, reduction="sum")
                    result[row] = float(total) / (len(reply) - (surplus if len(encoded[row][0]) <= context else 0))
        return result


def reply_perplexity(path: Path, rows: Sequence[LmRow], max_rows: int, settings: Mapping[str, Any]) -> dict[str, float]:
    """The number of rows and the perplexity over the tokens of the reply and its end, for at most max_rows random rows.

    settings: those in the card. Rows longer than its max_tokens are skipped. Raises UserError if no row is left.
    """
    generator, max_tokens, seed = Transformers(path), settings.get("max_tokens", 96), settings.get("seed", 0)
    drawn = sample_rows(list(rows), 3 * max_rows, seed)
    encoded = [(row, *encode_training_row(generator.tokenizer, row.comment, row.reply, max_tokens)) for row in drawn]
    kept = sample_rows([(row, len(ids) - prompt) for row, ids, prompt in encoded if len(ids) <= max_tokens], max_rows, seed)
    if not kept:
        raise UserError(f"no row has at most {max_tokens} tokens, so there is nothing to measure; prepare more data")
    _, spelt_end = spelt_ends(generator.tokenizer)
    surplus = len(_encode(generator.tokenizer, spelt_end)) - 1 if spelt_end else 0
    tokens = [count - surplus for _, count in kept]
    means = generator.log_likelihoods([(row.comment, row.reply) for row, _ in kept], GenerateSettings(max_prompt_tokens=max_tokens))
    nats = -sum(mean * count for mean, count in zip(means, tokens, strict=True))
    return {"rows": len(kept), "perplexity": metrics.perplexity(nats / sum(tokens))}


def load(path: Path, _: Precision = "int8") -> Transformers:
    return Transformers(path)
