"""workers: a queue of comments for the worker processes, for all pages of one server process.

    desk = Desk(settings)
    desk.submit(job, person, prepare, report)        report is called with {"type": "place", "place": n}, then with the events of answer.py
    desk.cancel(job)

One comment is answered at a time: generation uses all cores anyway. place: how many comments are before this one; 0 when it is its turn.
prepare: returns the Question, in the desk's thread, because it may have to fetch it. If anything fails, report is called with
{"type": "failed", "message": …}, and the next comment follows.
"""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bot.cli import UserError, first_line, say
from bot.config import Settings
from bot.online.answer import Event, Question, Workers

QUEUE = 100  # comments
OF_A_PERSON = 3  # comments in the queue, and the one that is being answered


class TooMany(UserError):
    """The queue is full, or the person has too many comments in it."""


@dataclass(eq=False)
class Job:
    name: str
    person: str
    prepare: Callable[[], Question]
    report: Callable[[Event], object]
    place: int = -1
    is_cancelled: bool = False


class Desk:
    def __init__(self, settings: Settings) -> None:
        """Starts the worker processes, which load their models meanwhile."""
        self._jobs: deque[Job] = deque()  # the first one is being answered
        self._changed = threading.Condition()
        self._settings = settings
        self._workers = Workers(settings)
        threading.Thread(target=self._work, daemon=True).start()

    def submit(self, name: str, person: str, prepare: Callable[[], Question], report: Callable[[Event], object]) -> None:
        """Raises TooMany."""
        with self._changed:
            if len(self._jobs) >= QUEUE:
                raise TooMany("the queue is full; try again in a minute")
            if sum(job.person == person for job in self._jobs) >= OF_A_PERSON:
                raise TooMany(f"you have {OF_A_PERSON} comments in the queue; wait for an answer, or cancel one")
            self._jobs.append(Job(name, person, prepare, report))
            self._changed.notify()
        self._report_places()

    def names(self) -> list[str]:
        """The jobs that wait or are being answered here."""
        with self._changed:
            return [job.name for job in self._jobs]

    def holds(self, name: str) -> bool:
        """Whether the job waits or is being answered here."""
        return name in self.names()

    def cancel(self, name: str) -> None:
        """Remove a job from the queue, or end it. Nothing more is reported about it."""
        with self._changed:
            for job in list(self._jobs):
                if job.name == name:
                    job.is_cancelled = True
                    if job is self._jobs[0]:
                        self._workers.cancel()
                    else:
                        self._jobs.remove(job)
        self._report_places()

    def close(self) -> None:
        self._workers.close()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs)
                job = self._jobs[0]
            self._report_places()
            try:
                self._answer(job)
            except UserError as error:
                self._tell(job, {"type": "failed", "message": str(error)})
            except Exception as error:
                traceback.print_exc()
                self._tell(job, {"type": "failed", "message": f"{type(error).__name__}: {first_line(error)}"})
            with self._changed:
                self._jobs.popleft()

    def _answer(self, job: Job) -> None:
        question = job.prepare()
        if job.is_cancelled:
            return
        for event in self._workers.answer(question, lambda: job.is_cancelled):
            self._tell(job, event)

    def _report_places(self) -> None:
        with self._changed:
            moved = [(job, place) for place, job in enumerate(self._jobs) if job.place != place]
            for job, place in moved:
                job.place = place
        for job, place in moved:
            self._tell(job, {"type": "place", "place": place})

    @staticmethod
    def _tell(job: Job, event: Event) -> None:
        """Report an event. If that fails, for example because Redis is away, the desk continues."""
        if job.is_cancelled:
            return
        try:
            job.report(event)
        except Exception as error:
            say(f"web: {event['type']} of {job.name} is lost: {type(error).__name__}: {first_line(error)}")
