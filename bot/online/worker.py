"""worker: one stage of the pipeline as a process that stays, with its models loaded, and takes one comment at a time.

    python -P -m bot.online.worker generate|rank|choose

Each stage has a process of its own, as in `run`, so that no process holds two frameworks. Started by answer.py. Lines of JSON:
Reads  on standard input the settings, then requests: {"number": n, "task": …, the fields of the task}; and {"cancel": n}.
Writes on standard output {"ready": true} when the models are loaded; for each request {"number": n, "item": …}, any number of times, then
       {"number": n, "end": true} or {"number": n, "error": "one line"}. A process that cannot start writes {"error": "one line"}.

    generate   task candidates   -> a Candidate per item, as soon as it is written
    rank       task scores       -> the Scores of all candidates
    choose     task may_answer   -> the Reason against answering the comment, or null
               task decide       -> a Scored with verdict and reason for each candidate

The process ends with its input, so also when its parent is killed.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from bot import cli, generators, text
from bot.cli import UserError
from bot.conduct import where
from bot.config import GenerateSettings, Settings
from bot.online import choose, rank
from bot.rankers import classifier, scoring
from bot.schema import Candidate, Comment, Context, Scores

Tasks = dict[str, Callable[[dict[str, Any]], Iterator[Any]]]

GENERATORS = 2  # loaded at a time
COMMENT_ID, THREAD_ID = "t1_asked", "t3_asked"  # of a comment that somebody typed


# --- the stages -----------------------------------------------------------------------------------------------------------


def generate_tasks(settings: Settings) -> Tasks:
    loaded: dict[Path, generators.Generator] = {}

    def generator(model: Path) -> generators.Generator:
        if model not in loaded:
            while len(loaded) >= GENERATORS:
                del loaded[next(iter(loaded))]
            loaded[model] = generators.load(settings.generate.backend, model, settings.generate.precision)
        return loaded[model]

    def candidates(request: dict[str, Any]) -> Iterator[Any]:
        own = GenerateSettings(**{**settings.generate.model_dump(), **request["generate"]})
        body = text.clean(request["comment"])
        above = tuple(filter(None, map(text.readable, request["above"])))
        place = generators.Place(request["subreddit"], text.readable(request["title"]), above)
        more = generators.with_places(own.backend, {COMMENT_ID: place})
        for each in generator(own.model).stream(COMMENT_ID, body, own, request["seed"], **more):
            yield asdict(each)

    first = generator(settings.generate.model).stream(COMMENT_ID, "Hello", settings.generate, 1)  # the first tokens are slow
    next(first)
    first.close()  # type: ignore[attr-defined]  # every stream is a generator function
    return {"candidates": candidates}


def rank_tasks(settings: Settings) -> Tasks:
    scoring.check_weights(settings.rank)
    how = scoring.by_all(settings.rank)
    score = how.load()
    score([("Hello", "Hello")])

    def scores(request: dict[str, Any]) -> Iterator[Any]:
        candidates = [Candidate(**each) for each in request["candidates"]]
        scored = score([(each.comment, each.reply) for each in candidates])
        yield [asdict(each) for each in rank.rows(candidates, scored, how)]

    return {"scores": scores}


def choose_tasks(settings: Settings) -> Tasks:
    conduct = settings.conduct
    classifier.judge_replies(["Hello"], conduct)
    classifier.judge_pieces(["Hello"], conduct)

    def may_answer(request: dict[str, Any]) -> Iterator[Any]:
        place = (request["subreddit"], request["title"], request["flair"], request["comment"])
        above = request["above"]
        likely = classifier.judge_pieces(where.pieces_judged(*place[1:], above=above), conduct)
        yield where.text_refusal(*place, conduct, above=above, likely=likely)

    def decide(request: dict[str, Any]) -> Iterator[Any]:
        comment = Comment(COMMENT_ID, THREAD_ID, request["subreddit"], request["title"], request["comment"], 0, 0, 0, "", False, "")
        context = [Context(THREAD_ID, f"t1_{place}", THREAD_ID, body) for place, body in enumerate(request["thread"])]
        candidates = [Candidate(**each) for each in request["candidates"]]
        scores = [Scores(**each) for each in request["scores"]]
        own = [*request["own"], *choose.own_texts(settings.submit.ledger, but_to=())]
        generate = settings.generate.model_copy(update={"model": Path(request["model"])})
        chosen, _ = choose.decide([comment], candidates, scores, context, own, settings.model_copy(update={"generate": generate}))
        yield [asdict(each) for each in chosen]

    return {"may_answer": may_answer, "decide": decide}


STAGES: dict[str, Callable[[Settings], Tasks]] = {"generate": generate_tasks, "rank": rank_tasks, "choose": choose_tasks}


# --- the process ----------------------------------------------------------------------------------------------------------


class Requests:
    """The requests on standard input, read by a thread, so that a cancellation is noticed while a request is carried out."""

    def __init__(self, lines: IO[str]) -> None:
        self.waiting: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.cancelled = -1  # this request and all before it
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            message = json.loads(line)
            if "cancel" in message:
                self.cancelled = max(self.cancelled, message["cancel"])
            else:
                self.waiting.put(message)
        os._exit(0)  # the parent is gone, and nobody reads the answer


def carry_out(request: dict[str, Any], tasks: Tasks, requests: Requests) -> Iterator[dict[str, Any]]:
    """The lines of the answer to a request. A failure is that of the request, and the process continues."""
    number = request["number"]
    items = tasks[request["task"]](request)
    try:
        for item in items:
            if requests.cancelled >= number:
                break
            yield {"number": number, "item": item}
    except UserError as error:
        yield {"number": number, "error": str(error)}
        return
    except Exception as error:
        traceback.print_exc()
        yield {"number": number, "error": f"{type(error).__name__}: {cli.first_line(error)}"}
        return
    finally:
        items.close()  # type: ignore[attr-defined]  # ends a generation that was cancelled
    yield {"number": number, "end": True}


def main(stage: str) -> None:
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error

    def write(line: dict[str, Any]) -> None:
        out.write(json.dumps(line) + "\n")
        out.flush()

    settings = Settings.model_validate_json(sys.stdin.readline())
    try:
        tasks = STAGES[stage](settings)
    except UserError as error:
        write({"error": str(error)})
        return
    write({"ready": True})
    requests = Requests(sys.stdin)
    while (request := requests.waiting.get()) is not None:
        for line in carry_out(request, tasks, requests):
            write(line)


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except BrokenPipeError:  # the process that started this one is gone
        os._exit(1)
