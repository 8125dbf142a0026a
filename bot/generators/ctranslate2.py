"""Generator back end `ctranslate2`: a serving folder that `models export` wrote, on this machine's processor cores.

Reads a serving folder (see export/to_ctranslate2.py). Neither PyTorch nor transformers is imported: a run starts at once.

    BOT_GENERATE__BACKEND=ctranslate2 python run_bot.py generate --in comments.csv --out candidates.csv

Each worker is an engine with a thread and a random stream of its own. Worker w of n answers the comments w, w + n, w + 2n, …, one call a
comment: a prompt is read once for all its candidates, and a candidate that has ended takes no more part. So a text depends on the seed, on
the comments before it in the file, on the number of cores, and, where a comment's candidates don't fit into memory together, on how much
of that is free.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
from tokenizers import Tokenizer

from bot import text
from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.generators import shortened, stream_seed
from bot.schema import Candidate
from bot.weights import loading, serving

MOST_WORKERS = 4  # each has the weights in memory; with more cores than that, a worker has several
SCORED_AT_ONCE = 2  # sequences whose logits, (time, vocabulary) each, are in memory


@dataclass
class Written:
    """A candidate's tokens, its end included, and their log-likelihood (the sum, in nats) under the model itself."""

    tokens: list[int]
    log_likelihood: float


def free_bytes() -> int:
    """Memory that may still be used, by the system and by this process's control group, in bytes."""
    lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no such group, or «max»
        return free
    return min(free, left)


class CTranslate2:
    def __init__(self, folder: Path):
        """Raises UserError if `folder` is no generator's serving folder."""
        self.folder, self.facts = folder, serving.read_facts(folder)
        if self.facts["kind"] != "generator":
            raise UserError(f"{folder}: a ranker, not a generator; set generate.model to a generator's folder")
        serving.prefer_avx512()
        loading.keep_freed_memory(one_heap=True)
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # no control token is meant in what people wrote
        self.name = f"ctranslate2:{folder.name}"

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. The engines are loaded anew, since their random streams start with them."""
        prompts = self.encode_prompts([comment for _, comment in comments], settings)
        cores = len(os.sched_getaffinity(0))
        seeds = [stream_seed(seed, worker) for worker in range(min(cores, MOST_WORKERS, len(comments)))]
        if not seeds:
            return
        engines = self.load_engines(seeds, cores // len(seeds))
        rows = self.rows(settings, len(engines))
        stop = threading.Event()

        def answer(number: int) -> list[Candidate]:
            worker = number % len(seeds)
            written = self.write(engines[worker], prompts[number], settings, rows, stop)
            return [self.candidate(*comments[number], index, seeds[worker], each) for index, each in enumerate(written)]

        threads = [ThreadPoolExecutor(1) for _ in engines]
        try:
            for future in as_completed([threads[number % len(seeds)].submit(answer, number) for number in range(len(comments))]):
                yield future.result()
        finally:
            stop.set()
            for thread in threads:
                thread.shutdown(cancel_futures=True)
            engines.clear()  # here and not at Python's end: their threads still hold a callback then, and the process would abort

    def load_engines(self, seeds: Sequence[int], cores: int) -> list[Any]:
        """An engine for each seed, with `cores` threads each, whose random stream starts with the seed.

        An engine's thread takes the seed that was set last when it draws its first token.
        """
        with ThreadPoolExecutor(len(seeds)) as pool:
            engines = [*pool.map(lambda _: ctranslate2.Generator(str(self.folder), intra_threads=cores), seeds)]
        for engine, seed in zip(engines, seeds, strict=True):
            ctranslate2.set_random_seed(seed)
            engine.generate_batch([[str(self.facts["start"])]], max_length=1, sampling_topk=2)
        return engines

    def encode_prompts(self, comments: Sequence[str], settings: GenerateSettings) -> list[list[int]]:
        """Raises UserError where the model's context leaves no room, or its end can't be put off."""
        most = min(settings.max_prompt_tokens, self.facts["context"] - settings.max_new_tokens)
        least = len(self.encode_prompt("", self.facts["context"])) + 1
        if most < least:
            raise UserError(
                f"generate.max_prompt_tokens {settings.max_prompt_tokens} and max_new_tokens {settings.max_new_tokens} leave {most} of"
                f" {self.facts['context']} tokens for a prompt, and it takes {least} at least; change them"
            )
        if settings.min_new_tokens and self.facts["spelt_end"]:
            raise UserError(f"generate.min_new_tokens: {self.name} spells its end in ordinary tokens, which can't be put off; set it to 0")
        return [self.encode_prompt(comment, most) for comment in comments]

    def encode_prompt(self, comment: str, most_tokens: int) -> list[int]:
        """As generators.transformers has it, token by token."""
        spelt = self.facts["spelt_start"]
        start = [] if spelt else [self.facts["start"]]
        return shortened([*start, *self._plain(spelt + text.format_prompt(comment))], self._plain(text.format_prompt("")), most_tokens)

    def _plain(self, written: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(written, add_special_tokens=False).ids
        return ids

    def rows(self, settings: GenerateSettings, workers: int) -> int:
        """Candidates a call: settings.batch_size shared among the workers, or what fits into half of the free memory."""
        tokens = settings.max_prompt_tokens + settings.max_new_tokens
        a_row = tokens * self.facts["bytes_a_token"] + 16 * self.facts["vocabulary"]
        return max(1, min(settings.batch_size, free_bytes() // 2 // a_row) // workers)

    def write(self, engine: Any, prompt: list[int], settings: GenerateSettings, rows: int, stop: threading.Event) -> list[Written]:
        """settings.num_candidates candidates, at most `rows` a call."""
        if settings.top_k == 1:  # all are the likeliest text
            return self.call(engine, prompt, settings, 1, stop) * settings.num_candidates
        counts = [min(rows, settings.num_candidates - first) for first in range(0, settings.num_candidates, rows)]
        return [each for count in counts for each in self.call(engine, prompt, settings, count, stop)]

    def call(self, engine: Any, prompt: list[int], settings: GenerateSettings, count: int, stop: threading.Event) -> list[Written]:
        """`count` candidates in the order in which they were drawn (the engine's own result has the likeliest first)."""
        written = [Written([], 0.0) for _ in range(count)]

        def note(step: Any) -> bool:
            """The engine's callback for each token; True ends the candidate."""
            row = written[step.hypothesis_id]
            row.tokens.append(step.token_id)
            row.log_likelihood += step.log_prob  # before temperature, top-k and nucleus
            return self.spells_end(row.tokens) or stop.is_set()

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
            callback=note,
        )
        if settings.repetition_penalty != 1 or settings.min_new_tokens:  # step.log_prob has these in it
            whole = [[str(token) for token in (*prompt, *row.tokens)] for row in written]
            scored = engine.score_batch(whole, max_batch_size=SCORED_AT_ONCE, max_input_length=0)
            written = [Written(row.tokens, sum(each.log_probs[-len(row.tokens) :])) for row, each in zip(written, scored, strict=True)]
        return written

    def spells_end(self, tokens: list[int]) -> bool:
        """True where the last tokens spell out the end, in a model whose end is ordinary text."""
        spelt = self.facts["spelt_end"]
        if not spelt:
            return False
        last = self.tokenizer.id_to_token(tokens[-1]) or ""  # only GPT-2 spells its end; in its tokens ASCII stands for itself
        if not (spelt.endswith(last) or last.endswith(spelt)):
            return False  # most needn't be decoded
        return str(self.tokenizer.decode(tokens[-len(spelt) :], skip_special_tokens=False)).endswith(spelt)

    def candidate(self, comment_id: str, comment: str, index: int, seed: int, written: Written) -> Candidate:
        tokens, spelt = written.tokens, self.facts["spelt_end"]
        decoded = str(self.tokenizer.decode([token for token in tokens if token != self.facts["end"]], skip_special_tokens=False))
        # a spelt end counts as one token: else a short reply would be rated by its end
        surplus = len(self._plain(spelt)) - 1 if spelt and decoded.endswith(spelt) else 0
        mean = written.log_likelihood / max(1, len(tokens) - surplus)
        return Candidate(comment_id, f"{comment_id}-{index}", seed, comment, text.parse_reply(decoded), self.name, mean)


def load(path: Path, precision: Precision = "int8") -> CTranslate2:
    """The generator in `path`, exported first if it isn't yet. Raises UserError if there is none, or it can't be exported."""
    return CTranslate2(serving.ready(path, precision))
