"""answer: one comment through the pipeline: may it be answered, generate, rank, choose. For `reply` and the web pages; nothing is posted.

    with Workers(settings) as workers:
        for event in workers.answer(Question("Which book made you laugh?")):
            …

Events, in this order, each a dict with "type":
    refused     reason, phrase                              the comment is not answered; the last event
    candidate   number, reply, log_likelihood               each as soon as it is written, in any order
    scores      rows: number, *_score                       of all candidates, by number
    choice      rows: number, verdict, reason, phrase; chosen: number or null            the last event
The stages are processes (worker.py) that load their models once and stay. One that died meanwhile is started again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bot import cli, generators, names, schema
from bot.cli import UserError, with_root, without_credentials
from bot.conduct.reasons import Reason
from bot.conduct.what import Unfit
from bot.config import Settings
from bot.schema import Comment, Context, NotChosen, Skipped, Verdict
from bot.weights import cards, listing, loading, serving

Event = dict[str, Any]

PHRASES = schema.phrases(NotChosen, Unfit)
STAGES = ("choose", "generate", "rank")  # in the order in which they are needed
FETCH_SECONDS = 120
# Threads of OpenMP that wait sleep instead of spinning, which on a machine that does other work too is slower by a factor of 10 and more.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
SCORES = ("realism_score", "upvote_score", "relevance_score", "choice_score", "rank_score")
NOTHING = "no reply is good enough"


@dataclass(frozen=True)
class Question:
    """A comment to answer. above: texts that it answers or continues, judged as well; thread: other texts there; own: the bot's earlier
    replies there, which it does not repeat. model: None for generate.model. refused: a reason that is already known.
    """

    comment: str
    subreddit: str = ""
    title: str = ""
    flair: str = ""
    num_candidates: int | None = None
    temperature: float | None = None
    seed: int = 1
    model: Path | None = None
    above: tuple[str, ...] = ()
    thread: tuple[str, ...] = ()
    own: tuple[str, ...] = ()
    refused: str = ""


class Died(UserError):
    """The process of a stage ended during a request. has_answered: it had yielded a part of the answer."""

    def __init__(self, stage: str, status: int, has_answered: bool) -> None:
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        super().__init__(f"the process of `{stage}` {how}; try again, and it will be restarted")
        self.has_answered = has_answered


class Process:
    """A stage as a process. One request at a time; `cancel` may be called by another thread."""

    def __init__(self, stage: str, settings: Settings) -> None:
        self.stage, self.settings = stage, settings
        self.number = 0
        self.process: subprocess.Popen[str] | None = None
        self._writing = threading.Lock()

    def start(self) -> subprocess.Popen[str]:
        """Start the process unless it is running. It loads its models meanwhile."""
        if self.process is None or self.process.poll() is not None:
            self.close()
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "bot.online.worker", self.stage],
                env=PASSIVE | with_root(without_credentials(os.environ, self.stage)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                process_group=0,  # Ctrl-C in the terminal reaches only this process, which ends the others
            )
            self._write(self.settings.model_dump(mode="json"))
        return self.process

    def ask(self, task: str, **fields: Any) -> Iterator[Any]:
        """Yield the items of the answer. Raises UserError if the stage cannot start, fails or dies."""
        earlier = self.process
        process = self.start()
        try:
            yield from self._answers(process, task, fields)
        except Died as error:
            if process is not earlier or error.has_answered:
                raise
            yield from self._answers(self.start(), task, fields)  # perhaps it died before this request

    def _answers(self, process: subprocess.Popen[str], task: str, fields: dict[str, Any]) -> Iterator[Any]:
        self.number += 1
        self._write({"number": self.number, "task": task, **fields})
        assert process.stdout is not None
        has_answered = False
        for line in process.stdout:
            message = json.loads(line)
            if error := message.get("error"):
                if "number" not in message:  # it could not start, and ends
                    self.close()
                raise UserError(error)
            if message.get("number") != self.number:  # ready, or what is left of a request whose reader went away
                continue
            if "end" in message:
                return
            has_answered = True
            yield message["item"]
        raise Died(self.stage, process.wait(), has_answered)

    def cancel(self) -> None:
        """Let the current request end early, without an error."""
        self._write({"cancel": self.number})

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()  # it has nothing to save
            with process, suppress(BrokenPipeError):
                pass

    def _write(self, message: dict[str, Any]) -> None:
        with self._writing:
            if self.process is not None and self.process.stdin is not None:
                with suppress(BrokenPipeError, ValueError):  # the process died or was closed; `ask` notices it when it reads
                    self.process.stdin.write(json.dumps(message) + "\n")
                    self.process.stdin.flush()


class Workers:
    """The three processes. One comment at a time; `cancel` may be called by another thread."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stages = {stage: Process(stage, settings) for stage in STAGES}
        for each in self.stages.values():
            each.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for each in self.stages.values():
            each.close()

    def cancel(self) -> None:
        """End a generation early, so that `answer` can ask is_cancelled."""
        self.stages["generate"].cancel()

    def answer(self, question: Question, is_cancelled: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """See the module. Ends early, without an error, if is_cancelled. Raises UserError if a stage fails."""
        choose, generate, rank = (self.stages[stage] for stage in STAGES)
        place = {name: getattr(question, name) for name in ("comment", "subreddit", "title", "flair", "above")}
        reason = question.refused or next(choose.ask("may_answer", **place), None)
        if reason:
            yield {"type": "refused", "reason": reason, "phrase": schema.phrases(Reason).get(reason, reason)}
            return
        chosen_settings = {"num_candidates": question.num_candidates, "temperature": question.temperature, "model": question.model}
        own = {name: str(value) if isinstance(value, Path) else value for name, value in chosen_settings.items() if value is not None}
        candidates = []
        asked = {"seed": question.seed, "generate": own, **{name: place[name] for name in ("comment", "subreddit", "title", "above")}}
        for candidate in generate.ask("candidates", **asked):
            if is_cancelled():
                self.cancel()
                continue
            candidates.append(candidate)
            yield {"type": "candidate", "number": number_of(candidate), **pick(candidate, "reply", "log_likelihood")}
        if is_cancelled():
            return
        candidates.sort(key=number_of)
        (scores,) = rank.ask("scores", candidates=candidates)
        yield {"type": "scores", "rows": [{"number": number_of(row), **pick(row, *SCORES)} for row in scores]}
        here = {name: getattr(question, name) for name in ("comment", "subreddit", "title", "thread", "own")}
        model = str(question.model or self.settings.generate.model)
        (rows,) = choose.ask("decide", candidates=candidates, scores=scores, model=model, **here)
        chosen = [number_of(row) for row in rows if row["verdict"] == Verdict.CHOSEN]
        reasons = [{"number": number_of(row), "phrase": phrase_of(row["reason"]), **pick(row, "verdict", "reason")} for row in rows]
        yield {"type": "choice", "rows": reasons, "chosen": chosen[0] if chosen else None}


def pick(row: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: row[name] for name in names}


def phrase_of(reason: str) -> str:
    return PHRASES.get(reason, reason)


def number_of(row: dict[str, Any]) -> int:
    """The number of a candidate, from 0, which is the end of its id."""
    return int(row["candidate_id"].rpartition("-")[2])


def with_model(settings: Settings, model: Path | None) -> Settings:
    """The settings with another generator, if one is given. Raises UserError if it is not one."""
    if model is None:
        return settings
    check_model(model, "--model", "lm", generators.back_end(settings.generate.backend).exported)
    return settings.model_copy(update={"generate": settings.generate.model_copy(update={"model": model})})


def check_model(folder: Path, name: str, kind: cards.Kind, is_exported: bool) -> None:
    """Raises UserError, which names the setting or option `name`, if the folder is not a model of this kind, or lacks a file or its base.

    is_exported: whether the back end loads an export, which is made from a model of transformers.
    """
    cards.check_kind(folder, name, kind)
    loading.transformers_folder(folder) if is_exported else serving.fingerprint(folder)


def generator_folders(settings: Settings) -> dict[str, Path]:
    """The generators to choose from, by name: generate.model, and the other models of this kind in the same folder."""
    own = settings.generate.model
    others = [path for path in listing.trained(own.parent) if path.name != own.name]
    return {own.name: own} | {path.name: path for path in others if is_generator(path)}


def is_generator(folder: Path) -> bool:
    try:
        return cards.read_card(folder).kind == "lm"
    except UserError:
        return False


# --- permalinks -----------------------------------------------------------------------------------------------------------


def fetched(permalink: str, config_file: Path | None) -> Question:
    """The comment at a permalink with its thread, fetched by the stage `fetch` in its own process, which alone uses the credentials.

    Raises UserError if it cannot be fetched, with the stage's message.
    """
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = cli.stage_command("fetch", "--run", str(run), "--permalink", permalink)
        command += ["--config", str(config_file)] if config_file else []
        try:
            done = subprocess.run(
                command,
                env=with_root(without_credentials(os.environ, "fetch")),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=FETCH_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(f"{permalink}: Reddit did not answer within {FETCH_SECONDS} seconds; try again later") from None
        if done.returncode:
            raise UserError((done.stderr.strip().splitlines() or ["fetch failed"])[-1].partition("fetch: ")[2] or "fetch failed")
        comments, skipped = schema.read_rows(run / "comments.csv", Comment), schema.read_rows(run / "skipped.csv", Skipped)
        context = schema.read_rows(run / "context.csv", Context)
    if not comments:
        _, comment_id = names.permalink_ids(permalink, permalink) or ("", "")
        reasons = [row.reason for row in skipped if row.comment_id == comment_id]
        return Question("", skipped[0].subreddit if skipped else "", refused=reasons[0] if reasons else Reason.UNREADABLE)
    comment = comments[0]
    return Question(comment.comment, comment.subreddit, comment.title, thread=tuple(row.comment for row in context))
