"""The rules of conduct, asked from a page.

    Checker(settings).objection(run, comment_id, reply)

The question is the one of `choose` and `submit`: what may be said under this comment, among these comments, by a bot that wrote those
replies before. It is answered in a process of its own, which loads the classifier once, so that the web server never holds a model.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from pathlib import Path
from threading import Lock

from bot import schema
from bot.cli import UserError, die_with_parent
from bot.config import Settings
from bot.online import choose
from bot.posting import approvals, ledger
from bot.schema import Comment, Context, Scored, Verdict

WAIT_SECONDS = 120  # the first question loads the classifier
EXAMPLE = Comment("t1_x", "t3_x", "books", "Which book next?", "I liked the last one a lot. Which one next?", 1, 0, 0, "", False, "")


class Checker:
    """May be used by several threads."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None

    def start(self) -> None:
        """Start the process and load the classifier in it, so that the first question is answered soon. Does not wait."""
        with self._lock:
            if self._pool is None:
                self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), die_with_parent)
                self._pool.submit(judge, self.settings, EXAMPLE, [], [], "That depends on what you liked before.")

    def objection(self, run: Path, comment_id: str, reply: str) -> str:
        """The name of the reason (a `what.Unfit`) why this reply must not be posted under this comment of the run, or an empty text.

        Raises:
            UserError: a file of the run or the classifier cannot be read, or the process was killed.
        """
        self.start()
        pool = self._pool
        assert pool is not None
        try:
            question = pool.submit(objection, self.settings, run, comment_id, reply)
        except RuntimeError:  # ended by the failure of another question
            raise self._interrupted(pool) from None
        try:
            return question.result(WAIT_SECONDS)
        except (BrokenProcessPool, CancelledError, TimeoutError):
            raise self._interrupted(pool) from None

    def _interrupted(self, pool: ProcessPoolExecutor) -> UserError:
        with self._lock:
            self._pool = None if self._pool is pool else self._pool
        pool.shutdown(wait=False, cancel_futures=True)
        return UserError("the text could not be checked, because the process that checks was interrupted; try again")


def objection(settings: Settings, run: Path, comment_id: str, reply: str) -> str:
    """See Checker.objection."""
    comments = schema.read_rows(run / "comments.csv", Comment)
    comment = next((each for each in comments if each.comment_id == comment_id), None)
    if comment is None:
        raise UserError(f"{run / 'comments.csv'}: {comment_id} is not in it; reload the page")
    in_thread = [each for each in comments if each.thread_id == comment.thread_id and each is not comment]
    context = [Context(each.thread_id, each.comment_id, "", each.comment) for each in in_thread]
    context += schema.read_rows(run / "context.csv", Context) if (run / "context.csv").exists() else []
    events = approvals.standing(approvals.read(run / approvals.FILE)).values()
    own = [event.after for event in events if approvals.is_approved(event) and event.comment_id != comment_id]
    if settings.submit.ledger.exists():
        with closing(ledger.open_existing(settings.submit.ledger)) as db:
            own += ledger.own_texts(db, but_to={comment_id})
    return judge(settings, comment, context, own, reply)


def judge(settings: Settings, comment: Comment, context: Sequence[Context], own: Sequence[str], reply: str) -> str:
    """The name of the reason why `reply` must not be posted under a comment. own: texts of other replies of the bot."""
    place = (comment.comment_id, comment.thread_id, comment.subreddit, comment.comment)
    row = Scored(*place, "", reply, None, None, None, None, Verdict.KEPT, "")
    fault, _ = choose.fault_finder([row], [comment], context, own, settings)
    return fault(row) or ""
