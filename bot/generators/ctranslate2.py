"""Generator back end `ctranslate2`: a serving folder that `models export` wrote, on this machine's processor cores.

Reads a serving folder (see export_ct2). Neither PyTorch nor transformers is imported: a run starts at once.

    BOT_GENERATE__BACKEND=ctranslate2 python run_bot.py generate --in comments.csv --out candidates.csv

Each worker is an engine with a thread of its own. It is given a few comments of like length at a time (a call): a prompt is read once for
all its candidates, and a candidate that has ended takes no more part.

A seed gives the same text whatever stands beside it, which CTranslate2 by itself doesn't promise, for two reasons:
- it draws all tokens of a thread from one Mersenne Twister. So the twister's state is laid out before every step, such that its next
  outputs are those of each candidate's own stream (`Twister`). These are the numbers and the rule by which the back end gpt-2-simple draws;
- it reads as much of all prompts of a call at once as the shortest has, and the rest token by token, which rounds differently. In int8 a
  difference in the last digit grows until it changes words. So all prompts of a call are read alike: at once up to a multiple of READ_STEP
  tokens, by a stand-in for a comment that has just that many and ends with its first token.
int8 then repeats bit by bit, whatever is in a call; float32 and bfloat16 round by how much is in it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import ctranslate2
import numpy as np
from tokenizers import Tokenizer

from bot import text
from bot.cli import UserError
from bot.config import GenerateSettings, Precision
from bot.generators import candidate_seed, shortened
from bot.schema import Candidate
from bot.weights import loading, serving

MOST_WORKERS = 4  # each has the weights in memory; with more cores than that, a worker has several
STATE_WORDS = 624  # of a Mersenne Twister (Matsumoto and Nishimura 1998)
READ_STEP = 8  # tokens
# What is laid out must last until a row tells its token; a draw takes two words, the second is the more significant one.
MOST_ROWS = STATE_WORDS // 2 // (READ_STEP - 1)
SCORED_AT_ONCE = 2  # sequences whose logits, (time, vocabulary) each, are in memory

Array = np.ndarray[Any, Any]


# --- random numbers -------------------------------------------------------------------------------------------------------


class Twister:
    """The numbers that CTranslate2 will draw next on the thread that calls `lay_out`.

    The state is std::mt19937's as libstdc++ has it: 624 words of 8 bytes and the place of the next. Whether that holds is looked up at the
    start, against numpy's.
    """

    def __init__(self) -> None:
        """Raises UserError where this build of CTranslate2 keeps it otherwise."""
        try:
            # ctranslate2::get_random_generator(), found among the libraries that the extension brought along
            self.state_of_thread = ctypes.CDLL(ctranslate2._ext.__file__)._ZN11ctranslate220get_random_generatorEv
        except (AttributeError, OSError):
            found = False
        else:
            self.state_of_thread.restype = ctypes.c_void_p
            ctranslate2.set_random_seed(1)
            answer: list[bool] = []
            looking = threading.Thread(target=lambda: answer.append(self._is_seeded_with(1)))  # a new thread takes the seed
            looking.start()
            looking.join()
            found = answer == [True]
        if not found:
            raise UserError(
                f"ctranslate2 {ctranslate2.__version__} doesn't keep its random numbers where the pinned version does; "
                "install requirements.txt, or use the back end transformers"
            )

    def _state(self) -> Array:
        address = ctypes.cast(self.state_of_thread(), ctypes.POINTER(ctypes.c_uint64))
        return np.ctypeslib.as_array(address, (STATE_WORDS + 1,))

    def _is_seeded_with(self, seed: int) -> bool:
        _, words, place, *_ = np.random.RandomState(seed).get_state(legacy=True)
        return bool((self._state()[:-1] == words).all() and self._state()[-1] == place)

    def lay_out(self, uniform: Array) -> None:
        """Make these numbers of [0, 1), at most half of STATE_WORDS, the next that are drawn."""
        words = np.zeros(2 * len(uniform), np.uint64)
        words[1::2] = np.asarray(uniform, np.float64) * 2**32
        state = self._state()
        state[: len(words)] = untempered(words)
        state[-1] = 0


def untempered(words: Array) -> Array:
    """State words from which a Mersenne Twister puts out these words, uint64 with 32 bits each.

    >>> twister = np.random.RandomState()
    >>> _ = twister.set_state(("MT19937", np.resize(untempered(np.array([7, 2**31], np.uint64)), 624), 0))
    >>> [int(twister.randint(0, 2**32, dtype=np.uint32)) for _ in range(2)]
    [7, 2147483648]
    """
    shift = np.uint64
    words = words ^ (words >> shift(18))
    words = words ^ ((words << shift(15)) & shift(0xEFC60000))
    whole = words
    for _ in range(4):  # 7 bits more are right each time
        whole = words ^ ((whole << shift(7)) & shift(0x9D2C5680))
    words = whole
    for _ in range(2):  # 11 bits more
        whole = words ^ (whole >> shift(11))
    return whole


# --- one call -------------------------------------------------------------------------------------------------------------------


class Call:
    """What the engine tells, token by token, of the rows of one call; lays out the numbers of the next step.

    The engine feeds the rest of a row's prompt, `ahead` tokens, without telling; it draws for the row all the same.
    """

    def __init__(self, twister: Twister, ahead: Array, uniform: Array, is_over: Callable[[int, list[int]], bool]):
        """ahead (rows,), 0 for one of them; uniform (rows, steps); is_over: of a row and the tokens that it has written so far."""
        self.twister, self.ahead, self.uniform, self.is_over = twister, ahead, uniform, is_over
        rows = len(ahead)
        self.tokens: list[list[int]] = [[] for _ in range(rows)]
        self.log_likelihood = [0.0] * rows  # of what is written, before temperature, top-k and nucleus
        self.at_work = np.arange(rows)
        self.ended = np.zeros(rows, bool)
        self.step = 0  # the first whose numbers are not laid out
        self.to_tell = 0  # rows of the current step that have not told their token

    def lay_out(self) -> None:
        """The numbers up to the next step in which a row tells its token."""
        numbers: list[Array] = []
        while not self.to_tell:
            written = self.step - self.ahead[self.at_work]
            numbers.append(np.where(written >= 0, self.uniform[self.at_work, np.maximum(written, 0)], 0.0))
            self.to_tell = int((written >= 0).sum())
            self.step += 1
        self.twister.lay_out(np.concatenate(numbers))

    def told(self, row: int, result: Any) -> bool:
        """The engine's callback for each token; True ends the row."""
        self.tokens[row].append(result.token_id)
        self.log_likelihood[row] += result.log_prob
        over = result.is_last or self.is_over(row, self.tokens[row])
        self.ended[row] = over
        self.to_tell -= 1
        if not self.to_tell:
            self.at_work = self.at_work[~self.ended[self.at_work]]
            if len(self.at_work):
                self.lay_out()
        return bool(over)


@dataclass(frozen=True)
class Job:
    """Candidates `first` to `first + count - 1` of some comments (their numbers): one call."""

    comments: list[int]
    first: int
    count: int


def read_at_once(length: int) -> int:
    """Tokens of a prompt that are read at once, the last one, from which the first draw is made, not counted.

    >>> read_at_once(9), read_at_once(16), read_at_once(17)
    (8, 8, 16)
    """
    return (length - 1) // READ_STEP * READ_STEP


def plan(lengths: Sequence[int], candidates: int, rows: int, key: Callable[[int], int]) -> list[Job]:
    """Calls of at most `rows` candidates, those with the longest prompts first; in a call `key` of the prompts' lengths is the same.

    >>> plan([5, 30, 6, 5], candidates=2, rows=4, key=read_at_once)
    [Job(comments=[1], first=0, count=2), Job(comments=[2, 0], first=0, count=2), Job(comments=[3], first=0, count=2)]
    >>> plan([5], candidates=10, rows=6, key=read_at_once)
    [Job(comments=[0], first=0, count=5), Job(comments=[0], first=5, count=5)]
    """
    parts = -(-candidates // rows)
    count = -(-candidates // parts)
    together: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
        last = together[-1] if together else []
        if last and (len(last) + 1) * count <= rows and key(lengths[last[0]]) == key(lengths[number]):
            last.append(number)
        else:
            together.append([number])
    return [Job(comments, first, min(count, candidates - first)) for comments in together for first in range(0, candidates, count)]


def free_bytes() -> int:
    """Memory that may still be used, by the system and by this process's control group, in bytes."""
    told = Path("/proc/meminfo").read_text("ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in told if line.startswith("MemAvailable:"))
    group = Path("/sys/fs/cgroup")
    try:
        left = int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no such group, or «max»
        return free
    return min(free, left)


# --- the back end -----------------------------------------------------------------------------------------------------------------


class CTranslate2:
    def __init__(self, folder: Path):
        self.facts = serving.read_facts(folder)
        if self.facts["kind"] != "generator":
            raise UserError(f"{folder}: a ranker, not a generator; set generate.model to a generator's folder")
        serving.prefer_avx512()
        loading.keep_freed_memory(one_heap=True)
        self.twister = Twister()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.encode_special_tokens = True  # no control token is meant in what people wrote
        self.name = f"ctranslate2:{folder.name}"
        cores = len(os.sched_getaffinity(0))
        self.workers = min(cores, MOST_WORKERS)
        self.engines: SimpleQueue[Any] = SimpleQueue()  # those that have nothing to do
        with ThreadPoolExecutor(self.workers) as pool:
            for engine in pool.map(lambda _: ctranslate2.Generator(str(folder), intra_threads=cores // self.workers), range(self.workers)):
                self.engines.put(engine)

    def sample(self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int) -> Iterator[list[Candidate]]:
        """See generators.Generator. The workers together work on settings.batch_size candidates, or on as many as memory holds."""
        most = self.most_prompt_tokens(settings)
        prompts = [self.encode_prompt(comment, most) for _, comment in comments]
        # the penalty would count what is left of a prompt after READ_STEPs: with one, only prompts of one length share a call
        # a prompt too short for a READ_STEP has no stand-in (of a single token the engine reads nothing ahead): the same
        key = (lambda length: read_at_once(length) or -length) if settings.repetition_penalty == 1 else int
        jobs = plan([len(prompt) for prompt in prompts], settings.num_candidates, self.rows(settings), key)
        stop = threading.Event()

        def work(job: Job) -> list[list[Candidate]]:
            engine = self.engines.get()
            try:
                return self.answer(engine, job, [comments[number] for number in job.comments], prompts, settings, seed, stop)
            finally:
                # the engine's thread lets go of the callback a moment after its call; when it has done this, it has
                engine.generate_batch([[str(self.facts["start"])]], max_length=1)
                self.engines.put(engine)

        found: dict[int, list[Candidate]] = {}
        with ThreadPoolExecutor(self.workers) as pool:
            futures = {pool.submit(work, job): job for job in jobs}
            try:
                for future in as_completed(futures):
                    job = futures.pop(future)
                    for number, candidates in zip(job.comments, future.result(), strict=True):
                        row = found.setdefault(number, [])
                        row += candidates
                        if len(row) == settings.num_candidates:
                            yield sorted(found.pop(number), key=lambda candidate: int(candidate.candidate_id.rpartition("-")[2]))
            finally:
                stop.set()
                pool.shutdown(wait=False, cancel_futures=True)

    def encode_prompt(self, comment: str, most_tokens: int) -> list[int]:
        """As generators.transformers has it, token by token."""
        spelt = self.facts["spelt_start"]
        start = [] if spelt else [self.facts["start"]]
        return shortened([*start, *self._plain(spelt + text.format_prompt(comment))], self._plain(text.format_prompt("")), most_tokens)

    def _plain(self, written: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(written, add_special_tokens=False).ids
        return ids

    def most_prompt_tokens(self, settings: GenerateSettings) -> int:
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
        return most

    def rows(self, settings: GenerateSettings) -> int:
        """Candidates a call: settings.batch_size shared among the workers, or what fits into half of the free memory."""
        tokens = settings.max_prompt_tokens + settings.max_new_tokens
        a_row = tokens * self.facts["bytes_a_token"] + 16 * self.facts["vocabulary"]
        fit = free_bytes() // 2 // self.workers // a_row
        return max(1, min(settings.batch_size // self.workers, fit, MOST_ROWS))

    def answer(
        self, engine: Any, job: Job, comments: list[tuple[str, str]], prompts: list[list[int]], settings: GenerateSettings, seed: int,
        stop: threading.Event,
    ) -> list[list[Candidate]]:  # fmt: skip
        """The job's candidates, a list a comment."""
        asked = [prompts[number] for number in job.comments]
        at_once = read_at_once(len(asked[0]))
        if at_once and settings.repetition_penalty == 1 and all((len(prompt) - 1) % READ_STEP for prompt in asked):
            asked.append(asked[0][: at_once + 1])  # the stand-in
        rows = len(comments) * job.count
        seeds = [candidate_seed(seed, comment, job.first + index) for _, comment in comments for index in range(job.count)]
        uniform = np.array([np.random.default_rng(seed).random(settings.max_new_tokens, np.float32) for seed in seeds])
        shortest = min(map(len, asked))
        ahead = np.repeat([len(prompt) - shortest for prompt in asked], job.count)
        uniform = np.concatenate([uniform, np.zeros((len(ahead) - rows, settings.max_new_tokens))])
        top_k = min(settings.top_k, self.facts["vocabulary"])
        if top_k == 1:  # CTranslate2 would leave out all candidates but one; the least number draws the likeliest token
            top_k, uniform = 2, np.zeros_like(uniform)
        spelt = self.facts["spelt_end"]

        def spells_end(tokens: list[int]) -> bool:
            last = self.tokenizer.id_to_token(tokens[-1]) or ""  # only GPT-2 spells its end; in its tokens ASCII stands for itself
            if not (spelt.endswith(last) or last.endswith(spelt)):
                return False  # most needn't be decoded
            return str(self.tokenizer.decode(tokens[-len(spelt) :], skip_special_tokens=False)).endswith(spelt)

        def is_over(row: int, tokens: list[int]) -> bool:
            return bool(spelt and spells_end(tokens)) or row >= rows or stop.is_set()

        call = Call(self.twister, ahead, uniform, is_over)

        def begin(_: Any) -> bool:  # only here is this code on the engine's thread before the first step
            call.lay_out()
            return True

        engine.generate_batch([[str(self.facts["start"])]], max_length=1, callback=begin)
        engine.generate_batch(
            [[str(token) for token in prompt] for prompt in asked],
            num_hypotheses=job.count,
            include_prompt_in_result=False,
            max_length=settings.max_new_tokens,
            min_length=settings.min_new_tokens,
            end_token=[self.facts["end"]],
            sampling_topk=top_k,
            sampling_topp=settings.top_p,
            sampling_temperature=settings.temperature,
            repetition_penalty=settings.repetition_penalty,
            return_scores=True,
            callback=lambda result: call.told(result.batch_id * job.count + result.hypothesis_id, result),
        )
        if settings.repetition_penalty != 1 or settings.min_new_tokens:  # what was told has these in it
            call.log_likelihood = self.log_likelihoods(engine, [asked[row // job.count] for row in range(rows)], call.tokens[:rows])
        made = [self.candidate(*comments[row // job.count], job.first + row % job.count, seeds[row], call, row) for row in range(rows)]
        return [made[start : start + job.count] for start in range(0, rows, job.count)]

    def log_likelihoods(self, engine: Any, prompts: list[list[int]], written: list[list[int]]) -> list[float]:
        """Of what was written after each prompt, under the model itself: the sum over its tokens."""
        whole = [[str(token) for token in (*prompt, *tokens)] for prompt, tokens in zip(prompts, written, strict=True)]
        scored = engine.score_batch(whole, max_batch_size=SCORED_AT_ONCE, max_input_length=0)
        return [sum(each.log_probs[-len(tokens) :]) for each, tokens in zip(scored, written, strict=True)]

    def candidate(self, comment_id: str, comment: str, index: int, seed: int, call: Call, row: int) -> Candidate:
        tokens, spelt = call.tokens[row], self.facts["spelt_end"]
        decoded = str(self.tokenizer.decode([token for token in tokens if token != self.facts["end"]], skip_special_tokens=False))
        # a spelt end counts as one token: else a short reply would be rated by its end
        surplus = len(self._plain(spelt)) - 1 if spelt and decoded.endswith(spelt) else 0
        mean = call.log_likelihood[row] / max(1, len(tokens) - surplus)
        return Candidate(comment_id, f"{comment_id}-{index}", seed, comment, text.parse_reply(decoded), self.name, mean)


def load(path: Path, precision: Precision = "int8") -> CTranslate2:
    """The generator in `path`, exported first if it isn't yet. Raises UserError if there is none, or it can't be exported."""
    return CTranslate2(serving.ready(path, precision))
