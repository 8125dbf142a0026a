"""Generator back end `openai-server`: asks a server with the OpenAI interface: vLLM, llama.cpp's server, Ollama, TGI and others.

Reads a folder with server.toml (see weights/servers.py), and the key from the environment variable OPENAI_API_KEY.

    BOT_GENERATE__BACKEND=openai-server BOT_GENERATE__MODEL=models/qwen python run_bot.py generate --in comments.csv --out candidates.csv

Prompts are our training text, for models that were fine-tuned on it, or a chat (chat_prompt.py). Sent are temperature, top_p, seed,
max_new_tokens and, for all candidates of a comment together, n. A server that ignores n or refuses it is asked for each candidate;
logprobs and seed are left out for a server that refuses them. The interface has no top_k and no tokenizer: max_prompt_tokens is estimated
(chat_prompt.cut). At most generate.batch_size candidates are asked for at a time, in one request or several.

`log_likelihood` is the mean of the token's log-probabilities that the server gives, empty if it gives none, or if the reply is only a part
of the text, as after reasoning. Servers take them before temperature and top_p, with their usual settings. The same seed gives the same
text if the server keeps seeds and answers the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from bot import schema, text
from bot.cli import Unreachable, UserError, say
from bot.config import GenerateSettings, Precision
from bot.generators import Failed, Place, chat_prompt, stream_seed
from bot.generators.openai_client import Client, Refused
from bot.schema import Candidate, LmRow
from bot.weights import servers

BACK_END = "openai-server"
FAILURES_IN_A_ROW = 10  # comments; then the server is taken to be out of order
UNKNOWN = -9999.0  # OpenAI's log-probability of a token outside the most likely ones
OPTIONAL = {
    "logprobs": "logprob",
    "n": "completion choice|completions|n_cmpl|`n`|'n'|number of slots",
    "seed": "seed",
}  # field -> its names in errors


class Drawn(NamedTuple):
    """A candidate's number, reply, seed and mean log-likelihood per token."""

    number: int
    reply: str
    seed: int
    log_likelihood: float | None


class OpenAIServer:
    def __init__(self, folder: Path):
        """Raises UserError if server.toml or its examples cannot be read."""
        self.server = servers.read(folder)
        self.name = f"{BACK_END}:{folder.name}"
        self.examples: list[LmRow] = []
        if self.server.examples:
            rows = schema.read_rows(self.server.examples, LmRow)
            self.examples = chat_prompt.draw_examples(rows, self.server.number_of_examples)
            if not self.examples:
                raise UserError(
                    f"{self.server.examples}: no pair is fit to be an example; prepare more data, or remove examples from server.toml"
                )
        self.client = Client(self.server.url, self.server.timeout_seconds)
        self.left_out: set[str] = set()  # the optional fields that the server refuses or, for n, ignores
        self.is_known = False  # left_out is complete, because a request succeeded
        self.warned = False  # that the server does not sample
        self.limit_name = "max_tokens"  # or max_completion_tokens

    def sample(
        self, comments: Sequence[tuple[str, str]], settings: GenerateSettings, seed: int, places: Mapping[str, Place] | None = None
    ) -> Iterator[list[Candidate]]:
        """See generators.Generator. places: by comment_id."""
        check(settings)
        left, failures, places = iter(comments), 0, places or {}
        self.client.stop.clear()
        with ThreadPoolExecutor(settings.batch_size) as pool:
            running: dict[Future[list[Candidate]], None] = {}
            try:
                while True:
                    # one comment alone until one succeeds, which shows what the server supports
                    at_a_time = self.comments_at_a_time(settings) if self.is_known else 1
                    for comment_id, comment in islice(left, max(0, at_a_time - len(running))):
                        place = places.get(comment_id, Place())
                        running[pool.submit(self.answer, comment_id, comment, place, settings, seed)] = None
                    if not running:
                        return
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        del running[future]
                        candidates = future.result()
                        failures = self.count(failures, candidates)
                        yield candidates
            finally:
                self.client.stop.set()
                pool.shutdown(cancel_futures=True)

    def stream(
        self, comment_id: str, comment: str, settings: GenerateSettings, seed: int, places: Mapping[str, Place] | None = None
    ) -> Iterator[Candidate]:
        """See generators.Generator. The candidates come one by one if the server has no n. Raises UserError if the server refuses."""
        check(settings)
        self.client.stop.clear()
        try:
            for drawn in self.draw(comment, (places or {}).get(comment_id, Place()), settings, seed):
                yield self.candidate(comment_id, comment, drawn)
        except Refused as error:
            raise UserError(f"{self.server.url}: {error}") from None
        finally:
            self.client.stop.set()

    def comments_at_a_time(self, settings: GenerateSettings) -> int:
        """The number of comments in progress: those whose candidates fit into batch_size; if the server has no n, each asks for one."""
        return settings.batch_size if "n" in self.left_out else max(1, settings.batch_size // settings.num_candidates)

    def count(self, failures: int, candidates: list[Candidate]) -> int:
        """The number of comments that have failed in a row. Raises Unreachable if they are too many. Long comments are not counted."""
        if not isinstance(candidates, Failed):
            return 0
        failures += candidates.reason != "context_too_long"
        if failures == FAILURES_IN_A_ROW:
            raise Unreachable(
                f"{self.server.url}: {failures} comments in a row failed, the last one because of {candidates.reason}: {candidates.detail}"
            )
        return failures

    def answer(self, comment_id: str, comment: str, place: Place, settings: GenerateSettings, seed: int) -> list[Candidate]:
        """All candidates for a comment, or Failed."""
        try:
            candidates = [self.candidate(comment_id, comment, drawn) for drawn in self.draw(comment, place, settings, seed)]
        except Refused as error:
            return Failed(comment_id, error.reason, str(error))
        if len(candidates) > 1 and candidates[0].reply and len({each.reply for each in candidates}) == 1 and not self.warned:
            self.warned = True
            say(f"{self.server.url}: all {len(candidates)} candidates for {comment_id} are equal; does the server sample?")
        return candidates

    def candidate(self, comment_id: str, comment: str, drawn: Drawn) -> Candidate:
        candidate_id = f"{comment_id}-{drawn.number}"
        return Candidate(comment_id, candidate_id, drawn.seed, comment, drawn.reply, self.name, drawn.log_likelihood)

    def draw(self, comment: str, place: Place, settings: GenerateSettings, seed: int) -> Iterator[Drawn]:
        """Ask for all candidates together, then for those that are missing. Raises Refused."""
        path, body = self.request(comment, place, settings)
        index = 0
        while index < settings.num_candidates and not self.client.stop.is_set():
            count = 1 if "n" in self.left_out else min(settings.num_candidates - index, settings.batch_size)
            own_seed = stream_seed(seed, index, comment)
            choices = self.ask(path, body, count, own_seed)[:count]
            if not choices:
                raise Refused("no_candidates", "the answer has no choices")
            if len(choices) < count:
                self.left_out.add("n")
            for choice in choices:
                generated = self.generated(choice)
                reply = chat_prompt.parse_reply(generated) if self.server.prompt == "chat" else text.parse_reply(generated)
                is_whole = "".join(reply.split()) == "".join(generated.split())
                yield Drawn(index, reply, own_seed, log_likelihood(choice) if is_whole else None)
                index += 1

    def request(self, comment: str, place: Place, settings: GenerateSettings) -> tuple[str, dict[str, Any]]:
        """The path and the body of a request, without optional fields."""
        common = {
            "model": self.server.model, "max_tokens": settings.max_new_tokens, "temperature": settings.temperature, "top_p": settings.top_p,
        }  # fmt: skip
        if self.server.prompt == "chat":
            messages = chat_prompt.messages(comment, place, self.examples, settings.max_prompt_tokens)
            return "/chat/completions", {**common, "messages": messages}
        prompt = self.server.start + text.format_prompt(chat_prompt.cut(comment, settings.max_prompt_tokens))
        return "/completions", {**common, "prompt": prompt}

    def ask(self, path: str, body: dict[str, Any], count: int, seed: int) -> list[dict[str, Any]]:
        """The choices in the answer. Finds out which optional fields the server refuses. Raises Refused."""
        fields = {"n": count, "seed": seed, "logprobs": True if self.server.prompt == "chat" else 1}

        def post(without: set[str]) -> list[Any]:
            own = {self.limit_name if name == "max_tokens" else name: value for name, value in body.items()}
            return self.client.post(path, own | {name: value for name, value in fields.items() if name not in without})["choices"]

        def send(without: set[str]) -> list[dict[str, Any]]:
            try:
                choices = post(without)
            except Refused as error:
                if "max_completion_tokens" not in str(error) or self.limit_name != "max_tokens":
                    raise
                self.limit_name = "max_completion_tokens"
                choices = post(without)
            if not all(isinstance(choice, dict) for choice in choices):
                raise Refused("no_candidates", "the answer has choices of another form")
            if without != self.left_out or not self.is_known:
                self.left_out, self.is_known = without, True
                self.report()
            return choices

        try:
            return send(self.left_out)
        except Refused as first:
            if self.is_known or first.reason != "refused_by_server":
                raise
            without, message = set(self.left_out), str(first)
            for name in sorted(OPTIONAL, key=lambda name: not names(message, name)):
                without.add(name)
                try:
                    return send(set(without))
                except Refused as error:
                    if error.reason != "refused_by_server":
                        raise
            raise first from None

    def report(self) -> None:
        missing = {
            "logprobs": "log_likelihood stays empty",
            "seed": "the same seed does not give the same text",
            "n": "it is asked for each candidate",
        }
        for name in sorted(self.left_out):
            say(f"{self.server.url}: the server refuses {name}; {missing[name]}")

    def generated(self, choice: Mapping[str, Any]) -> str:
        """The text in a choice. Raises Refused if it is not of the interface."""
        if self.server.prompt != "chat":
            generated = choice.get("text")
        else:
            message = choice.get("message")
            generated = message.get("content") if isinstance(message, dict) else message
            if isinstance(message, dict) and generated is None:
                generated = ""  # only reasoning, a tool call or a refusal
        if not isinstance(generated, str):
            raise Refused("no_candidates", f"a choice without text: {self.client.shown(json.dumps(choice))}")
        return generated


def names(message: str, field: str) -> bool:
    """True if an error seems to be about an optional field.

    >>> names("Only one completion choice is allowed", "n"), names("Only one completion choice is allowed", "seed")
    (True, False)
    """
    return any(each in message.lower() for each in OPTIONAL[field].split("|"))


def log_likelihood(choice: Mapping[str, Any]) -> float | None:
    """The mean log-probability of the tokens in a choice, in nats; None if the server does not give that of each token.

    Both forms occur with both interfaces: that of completions, {"token_logprobs": […]}, and that of chats, {"content": [{"logprob": …}]}.

    >>> log_likelihood({"logprobs": {"token_logprobs": [-1.0, -2.0]}}), log_likelihood({"logprobs": {"content": [{"logprob": -3.0}]}})
    (-1.5, -3.0)
    """
    given = choice.get("logprobs")
    if not isinstance(given, dict):
        return None
    content = given.get("token_logprobs")
    if not content and isinstance(rows := given.get("content"), list):
        content = [row.get("logprob") for row in rows if isinstance(row, dict)]
    if not isinstance(content, list) or not content or not all(map(is_log_probability, content)):
        return None
    return float(sum(content) / len(content))


def is_log_probability(value: Any) -> bool:
    """
    >>> [is_log_probability(each) for each in (-1, -0.5, 0.0, 2.0, float("nan"), True, None, -(10**400), -9999.0)]
    [True, True, True, False, False, False, False, False, False]
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and UNKNOWN < value < 1e-3  # a little above 0 by rounding


def check(settings: GenerateSettings) -> None:
    """Raises UserError for a setting that the interface cannot express."""
    for name, neutral in (("beam_width", 1), ("repetition_penalty", 1), ("min_new_tokens", 0)):
        if getattr(settings, name) != neutral:
            raise UserError(f"generate.{name}: not part of the OpenAI interface; set it to {neutral}")


def load(path: Path, _: Precision = "int8") -> OpenAIServer:
    """Raises UserError if the folder has no valid server.toml. The server is not asked yet."""
    return OpenAIServer(path)
