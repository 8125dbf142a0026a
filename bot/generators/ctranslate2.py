"""Generator back end `ctranslate2`: runs a serving folder written by `models export` on the CPU.

Reads a serving folder (see export/to_ctranslate2.py). It does not import PyTorch and transformers, so it starts quickly.

    BOT_GENERATE__BACKEND=ctranslate2 python run_bot.py generate --in comments.csv --out candidates.csv

Each worker is an engine with its own thread and random stream. Worker w of n answers the comments w, w + n, w + 2n, …, with one call per
comment: a prompt is encoded once for all its candidates, and finished candidates need no further computation. The text depends on the
seed, on the preceding comments in the file, on the number of cores, and, if the candidates of a comment do not fit into memory together,
on the amount of free memory.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
from tokenizers import Tokenizer

from bot import text
from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.generators import prompt_room, stream_seed, truncate
from bot.schema import Candidate
from bot.weights import loading, serving

MAX_WORKERS = 4  # each has its own copy of the weights; with more cores, each worker gets several
SCORING_BATCH = 2  # sequences; the logits of each, (time, vocabulary), must fit into memory


@dataclass
class Sampled:
    """The tokens of a candidate, including its end, and their log-likelihood (sum, in nats) under the unmodified model."""

    tokens: list[int]
    log_likelihood: float


Finished = Callable[[int, Sampled], None]


def free_bytes() -> int:
    """Available memory of the system and of this process's control group, in bytes."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no control group, or the limit is "max"
        return free
    return min(free, left)


class CTranslate2:
    def __init__(self, folder: Path):
        """Raises UserError if `folder` is not the serving folder of a generator."""
        self.folder, self.facts = folder, serving.read_facts(folder)
        if self.facts["kind"] != "generator":
            raise UserError(f"{folder}: a ranker, not a generator; set generate.model to a generator's folder")
        serving.prefer_avx512()
        loading.keep_freed_memory(one_heap=True)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # text of users must not become control tokens
        self.name = f"ctranslate2:{folder.name}"

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. The engines are loaded again, because that restarts their random streams."""
        prompts = self.encode_prompts([comment for _, comment in comments], settings)
        cores = len(os.sched_getaffinity(0))
        seeds = [stream_seed(seed, worker) for worker in range(min(cores, MAX_WORKERS, len(comments)))]
        if not seeds:
            return
        engines = self.load_engines(seeds, cores // len(seeds))
        rows = self.rows(settings, len(engines))
        stop = threading.Event()

        def answer(number: int) -> list[Candidate]:
            worker = number % len(seeds)
            sampled = self.draw(engines[worker], prompts[number], settings, rows, stop)
            return [self.candidate(*comments[number], index, seeds[worker], each) for index, each in enumerate(sampled)]

        threads = [ThreadPoolExecutor(1) for _ in engines]
        try:
            for future in as_completed([threads[number % len(seeds)].submit(answer, number) for number in range(len(comments))]):
                yield future.result()
        finally:
            stop.set()
            for thread in threads:
                thread.shutdown(cancel_futures=True)
            engines.clear()  # not at exit of Python, where their threads would still hold a callback and abort the process

    def stream(self, comment_id: str, comment: str, settings: GenerateSettings, seed: int) -> Iterator[Candidate]:
        """See generators.Generator. All candidates are drawn together; the short ones are finished first."""
        (prompt,), worker_seed = self.encode_prompts([comment], settings), stream_seed(seed, 0)
        engines = self.load_engines([worker_seed], len(os.sched_getaffinity(0)))
        finished: queue.SimpleQueue[tuple[int, Sampled]] = queue.SimpleQueue()
        stop = threading.Event()
        thread = ThreadPoolExecutor(1)
        drawing = thread.submit(self.draw, engines[0], prompt, settings, self.rows(settings, 1), stop, lambda *each: finished.put(each))
        drawing.add_done_callback(lambda _: finished.put((-1, Sampled([], 0.0))))
        try:
            for index, sampled in iter(finished.get, (-1, Sampled([], 0.0))):
                yield self.candidate(comment_id, comment, index, worker_seed, sampled)
            drawing.result()  # raises what the thread raised
        finally:
            stop.set()
            thread.shutdown()
            engines.clear()  # see `sample`

    def load_engines(self, seeds: Sequence[int], cores: int) -> list[Any]:
        """Load an engine with `cores` threads for each seed.

        The random stream of an engine starts when it draws its first token, with the seed that was set last.
        """
        with ThreadPoolExecutor(len(seeds)) as pool:
            engines = [*pool.map(lambda _: ctranslate2.Generator(str(self.folder), intra_threads=cores), seeds)]
        for engine, seed in zip(engines, seeds, strict=True):
            ctranslate2.set_random_seed(seed)
            engine.generate_batch([[str(self.facts["start"])]], max_length=1, sampling_topk=2)
        return engines

    def encode_prompts(self, comments: Sequence[str], settings: GenerateSettings) -> list[list[int]]:
        """Raises UserError if the context has no room for a prompt, or the model does not support min_new_tokens."""
        context = self.facts["context"]
        maximum = prompt_room(settings, context, len(self.encode_prompt("", context)) + 1)
        if settings.min_new_tokens and self.facts["spelt_end"]:
            raise UserError(f"generate.min_new_tokens: {self.name} has no end token and does not support it; set it to 0")
        return [self.encode_prompt(comment, maximum) for comment in comments]

    def encode_prompt(self, comment: str, max_tokens: int) -> list[int]:
        """The same tokens as in generators.transformers."""
        spelt = self.facts["spelt_start"]
        start = [] if spelt else [self.facts["start"]]
        return truncate([*start, *self._encode(spelt + text.format_prompt(comment))], self._encode(text.format_prompt("")), max_tokens)

    def _encode(self, body: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(body, add_special_tokens=False).ids
        return ids

    def rows(self, settings: GenerateSettings, workers: int) -> int:
        """Candidates per call: settings.batch_size divided among the workers, but at most what fits into half of the free memory."""
        tokens = settings.max_prompt_tokens + settings.max_new_tokens
        a_row = tokens * self.facts["bytes_a_token"] + 16 * self.facts["vocabulary"]
        return max(1, min(settings.batch_size, free_bytes() // 2 // a_row) // workers)

    def draw(
        self,
        engine: Any,
        prompt: list[int],
        settings: GenerateSettings,
        rows: int,
        stop: threading.Event,
        finished: Finished = lambda index, sampled: None,
    ) -> list[Sampled]:
        """Draw settings.num_candidates candidates, at most `rows` per call. finished: called with each candidate and its index."""
        count = settings.num_candidates
        if settings.top_k == 1:  # greedy: all candidates are equal
            sampled = self.call(engine, prompt, settings, 1, stop) * count
            for each in enumerate(sampled):
                finished(*each)
            return sampled
        result: list[Sampled] = []
        while len(result) < count:

            def with_index(index: int, sampled: Sampled, first: int = len(result)) -> None:
                finished(first + index, sampled)

            result += self.call(engine, prompt, settings, min(rows, count - len(result)), stop, with_index)
        return result

    def call(
        self,
        engine: Any,
        prompt: list[int],
        settings: GenerateSettings,
        count: int,
        stop: threading.Event,
        finished: Finished = lambda index, sampled: None,
    ) -> list[Sampled]:
        """Draw `count` candidates in one call. (The engine's own result is sorted by likelihood; this one is not.)"""
        sampled = [Sampled([], 0.0) for _ in range(count)]
        is_scored_again = settings.repetition_penalty != 1 or settings.min_new_tokens > 0  # step.log_prob includes their effect

        def on_token(step: Any) -> bool:
            """The engine's callback for each token. Returns True to end the candidate."""
            row = sampled[step.hypothesis_id]
            row.tokens.append(step.token_id)
            row.log_likelihood += step.log_prob  # before temperature, top-k and nucleus
            ends = self.spells_end(row.tokens) or stop.is_set()
            if (ends or step.is_last) and not is_scored_again and not stop.is_set():
                finished(step.hypothesis_id, row)
            return ends

        engine.generate_batch(
            [[str(token) for token in prompt]],
            num_hypotheses=count,
            include_prompt_in_result=False,
            max_length=settings.max_new_tokens,
            min_length=settings.min_new_tokens,
            end_token=[self.facts["end"]],
            sampling_topk=min(settings.top_k, self.facts["vocabulary"]),
            sampling_topp=settings.top_p,
            sampling_temperature=settings.temperature,
            repetition_penalty=settings.repetition_penalty,
            return_scores=True,
            callback=on_token,
        )
        if is_scored_again:
            texts = [[str(token) for token in (*prompt, *row.tokens)] for row in sampled]
            scored = engine.score_batch(texts, max_batch_size=SCORING_BATCH, max_input_length=0)
            sampled = [Sampled(row.tokens, sum(each.log_probs[-len(row.tokens) :])) for row, each in zip(sampled, scored, strict=True)]
            for each in enumerate(sampled):
                finished(*each)
        return sampled

    def spells_end(self, tokens: list[int]) -> bool:
        """True if the last tokens spell the end marker, for a model whose end marker is ordinary text."""
        spelt = self.facts["spelt_end"]
        if not spelt:
            return False
        last = self.tokenizer.id_to_token(tokens[-1]) or ""  # only GPT-2 spells its end; its tokens represent ASCII unchanged
        if not (spelt.endswith(last) or last.endswith(spelt)):
            return False  # avoids decoding in most cases
        return str(self.tokenizer.decode(tokens[-len(spelt) :], skip_special_tokens=False)).endswith(spelt)

    def candidate(self, comment_id: str, comment: str, index: int, seed: int, sampled: Sampled) -> Candidate:
        tokens, spelt = sampled.tokens, self.facts["spelt_end"]
        decoded = str(self.tokenizer.decode([token for token in tokens if token != self.facts["end"]], skip_special_tokens=False))
        # count a spelt end as one token; otherwise it would dominate the mean of a short reply
        surplus = len(self._encode(spelt)) - 1 if spelt and decoded.endswith(spelt) else 0
        mean = sampled.log_likelihood / max(1, len(tokens) - surplus)
        return Candidate(comment_id, f"{comment_id}-{index}", seed, comment, text.parse_reply(decoded), self.name, mean)


def load(path: Path, precision: Precision = "int8") -> CTranslate2:
    """Load the generator in `path`, after exporting it if necessary. Raises UserError if there is no model or the export fails."""
    return CTranslate2(serving.ensure_exported(path, precision))
