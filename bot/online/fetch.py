"""fetch: read from Reddit the comments to answer, the comments to skip with the reasons, and the rest of their threads.

Reads  Reddit, or the sandbox at reddit.url; and the ledger, if there is one.
Writes RUN/context.csv, RUN/skipped.csv and, last, RUN/comments.csv. Each comment that was read is in exactly one of the last two.

    python run_bot.py fetch --config FILE --run RUN [--limit N]
    python run_bot.py fetch --config FILE --run RUN --permalink https://www.reddit.com/r/SUBREDDIT/comments/THREAD/TITLE/COMMENT/

If all three files exist, are complete and were made with the same settings, nothing is fetched again, so an interrupted run resumes with
the same comments. With --permalink one comment is read, whatever its age, depth and karma, because a person selected it.
conduct.may_reply_to decides which comments are answered; if there is a ledger, its records count too. Users who ask bots to stay away are
recorded as opted out in the ledger, or in its backup if there is no ledger.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import typer

from bot import cli, config, files, markdown, names, schema, text
from bot.cli import Unreachable, UserError, WrongSettings
from bot.conduct import where
from bot.conduct.reasons import Reason
from bot.conduct.where import NOTHING_KNOWN, NOTHING_LIKELY, Known, Likely
from bot.config import FetchSettings, Settings
from bot.posting import backup, ledger
from bot.posting.ledger import State
from bot.rankers import classifier
from bot.reddit import client as reddit
from bot.reddit.outcomes import Outcome
from bot.reddit.requestor import Client
from bot.reddit.threads import Thread, ThreadComment
from bot.schema import Comment, Context, Skipped

ANY_COMMENT = {"depth": sys.maxsize, "minimum_karma": -sys.maxsize, "maximum_age_hours": float("inf")}
FAILURES_IN_A_ROW = 3  # threads; after that, the remaining threads are not requested


def take_up(
    threads: list[Thread],
    settings: Settings,
    now: float,
    us: str = "",
    limit: int | None = None,
    known: Known = NOTHING_KNOWN,
    judge: Callable[[Sequence[str]], Likely] = lambda pieces: NOTHING_LIKELY,
    only: str = "",
) -> tuple[list[Comment], list[Context], list[Skipped]]:
    """Divide the comments of threads into those to answer, context (the other readable comments of the same threads), and skipped ones.

    now: epoch seconds. us: our account's name, empty for none. known: the ledger's records. judge: a classifier of pieces of text, called
    once with the texts of all comments that pass every other rule. Comments to answer are taken from the threads in turn, in the order of
    the threads and by descending karma within a thread, up to `limit`, so that no thread uses up the limit. only: the fullname of
    the only comment to consider; the others are context. Comments by people who opted
    out, or who ask bots to stay away in these threads, are not stored.
    """
    away = {name.lower() for name in ask_bots_away(threads)}
    answered = {thread.thread_id: {each.parent_id for each in thread.comments if where.same_name(each.author, us)} for thread in threads}

    def refusal(thread: Thread, comment: ThreadComment, likely: Likely) -> Reason | None:
        ours = answered[thread.thread_id]
        reason = where.may_reply_to(thread, comment, settings.fetch, settings.conduct, now, us, ours, known, likely)
        return Reason.OPTED_OUT if reason is None and away & {comment.author.lower(), thread.author.lower()} else reason

    pairs = [(thread, comment) for thread in threads for comment in thread.comments if only in ("", comment.comment_id)]
    reasons = [refusal(*pair, NOTHING_LIKELY) for pair in pairs]
    left = [pair for pair, reason in zip(pairs, reasons, strict=True) if reason is None]
    likely = judge(list(dict.fromkeys(piece for pair in left for piece in where.pieces_of(*pair))))
    reasons = [reason or refusal(*pair, likely) for pair, reason in zip(pairs, reasons, strict=True)]

    answerable: dict[str, list[tuple[Thread, ThreadComment]]] = {thread.thread_id: [] for thread in threads}
    skipped: list[Skipped] = []
    for (thread, comment), reason in zip(pairs, reasons, strict=True):
        if reason is None:
            answerable[thread.thread_id].append((thread, comment))
        else:
            skipped.append(Skipped(comment.comment_id, thread.thread_id, thread.subreddit, reason))
    for thread in threads:
        answerable[thread.thread_id].sort(key=lambda pair: (-pair[1].karma, pair[1].created_utc, pair[1].comment_id))
        seen = {comment.comment_id for comment in thread.comments}
        hidden = [name for name in dict.fromkeys(thread.behind_more) if name not in seen]
        skipped += [Skipped(name, thread.thread_id, thread.subreddit, Reason.BEHIND_MORE) for name in hidden]

    in_turns = [pair for turn in zip_longest(*answerable.values()) for pair in turn if pair is not None]
    taken, over = in_turns[:limit], in_turns[len(in_turns) if limit is None else limit :]
    skipped += [Skipped(comment.comment_id, thread.thread_id, thread.subreddit, Reason.OVER_LIMIT) for thread, comment in over]

    taken_ids, taken_threads = {comment.comment_id for _, comment in taken}, {thread.thread_id for thread, _ in taken}
    context = [
        Context(thread.thread_id, comment.comment_id, comment.parent_id, markdown.well_formed(comment.body), comment.author)
        for thread in threads
        if thread.thread_id in taken_threads
        for comment in thread.comments
        if comment.comment_id not in taken_ids and comment.body.strip() and not text.is_notice(comment.body)
        if comment.author.lower() not in away.union(known.opted_out)
    ]
    return [_row(thread, comment) for thread, comment in taken], context, skipped


def ask_bots_away(threads: list[Thread]) -> dict[str, str]:
    """Users who ask bots to stay away -> the fullname of their comment or submission."""
    return {name: source for thread in threads for name, source in where.asking_away(thread).items()}


def remember(path: Path, asking: Mapping[str, str], now: float) -> None:
    """Record these people as opted out in the ledger at `path`, or in its backup if there is no ledger. asking: as from `ask_bots_away`."""
    if asking and path.exists():
        with closing(ledger.open_ledger(path)) as db:
            for name, source in asking.items():
                ledger.opt_out(db, name, source, int(now))
    elif asking:
        known = backup.opted_out(path)
        for name, source in asking.items():
            if name.lower() not in known:
                backup.append(path, utc=int(now), opted_out=name.lower(), source=source)


def _row(thread: Thread, comment: ThreadComment) -> Comment:
    return Comment(
        comment_id=comment.comment_id,
        thread_id=thread.thread_id,
        subreddit=thread.subreddit,
        title=markdown.well_formed(thread.title),
        comment=markdown.well_formed(comment.body),
        comment_karma=comment.karma,
        comment_utc=comment.created_utc,
        depth=comment.depth,
        author=comment.author,
        over_18=thread.over_18,
        permalink=comment.permalink,
        submitter=thread.author,
        parent_id=comment.parent_id,
    )


def read_threads(client: Client, rules: FetchSettings) -> tuple[list[Thread], list[Skipped], dict[str, Outcome]]:
    """The threads that `rules` select (the first of each subreddit, then the second of each, …, each once), those that cannot be read, and
    each subreddit's outcome.

    Raises:
        UserError: the credentials are wrong, or nothing can be read.
    """
    answers: dict[str, Outcome] = {}
    by_subreddit: list[list[Thread]] = []
    unread: dict[str, Skipped] = {}
    problems: list[Unreachable] = []
    asked: set[str] = set()
    failures = 0  # in a row
    for name in rules.subreddits:
        threads: list[Thread] = []
        by_subreddit.append(threads)
        try:
            answers[name], thread_ids = reddit.list_submissions(client, name, rules.listing, rules.submissions)
        except Unreachable as error:
            answers[name], thread_ids = Outcome.UNREADABLE, []
            problems.append(error)
        for thread_id in thread_ids:
            if thread_id in asked:
                continue
            asked.add(thread_id)
            unread[thread_id] = Skipped(thread_id, thread_id, name, Reason.UNREADABLE)
            if failures >= FAILURES_IN_A_ROW:
                continue
            try:
                outcome, thread = reddit.read_thread(client, thread_id, rules.replace_more_limit)
            except Unreachable as error:
                outcome, thread = Outcome.UNREADABLE, None
                problems.append(error)
            failures = failures + 1 if outcome in (Outcome.UNREADABLE, Outcome.RATE_LIMITED) else 0
            if thread is not None:
                threads.append(thread)
                del unread[thread_id]
    if problems and not any(by_subreddit):
        raise problems[0]
    if asked and len(unread) == len(asked):
        raise Unreachable(f"none of {len(asked)} threads could be read; try again later")
    return [thread for turn in zip_longest(*by_subreddit) for thread in turn if thread is not None], list(unread.values()), answers


def known_to(path: Path, now: float) -> Known:
    """The records of the ledger at `path`, or of its backup if there is no ledger. Raises UserError if one of them is damaged."""
    if not path.exists():
        return Known(opted_out=backup.opted_out(path))
    with closing(ledger.open_existing(path)) as db:
        sent = ledger.in_state(db, *ledger.SENT)
        return Known(
            opted_out=ledger.everyone_opted_out(db),
            benched=ledger.benched(db, int(now)),
            comments={reply.comment_id for reply in sent},
            threads={reply.thread_id for reply in sent},
            tried={reply.comment_id for reply in ledger.in_state(db, State.READY, State.REJECTED)},
        )


def main(
    run: Annotated[Path, typer.Option(help="run folder; created if missing")],
    config_file: Annotated[Path | None, typer.Option("--config", help="TOML settings")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="answer at most this many comments, spread over submissions")] = None,
    permalink: Annotated[str, typer.Option(help="read only this comment, whatever its age, depth and karma")] = "",
) -> None:
    """Read from Reddit the comments to answer, the comments to skip with the reasons, and the rest of their threads."""
    settings = config.load(config_file)
    with files.run_folder(run, make=True):
        fetch(run, settings, limit, permalink)


def read_listed(client: Client, rules: FetchSettings) -> tuple[list[Thread], list[Skipped], dict[str, Outcome]]:
    """`read_threads`, and a line for what cannot be read. Raises UserError if no subreddit can be read."""
    threads, unread, answers = read_threads(client, rules)
    refused = {name: outcome for name, outcome in answers.items() if outcome is not Outcome.READ}
    if len(refused) == len(answers):
        raise UserError(f"no subreddit could be read ({_counted(refused)}); check fetch.subreddits")
    for name, outcome in refused.items():
        print(f"fetch: r/{name} is left out: {outcome}")
    if unread:
        print(f"fetch: {len(unread)} of {len(threads) + len(unread)} threads cannot be read: {', '.join(row.thread_id for row in unread)}")
    return threads, unread, answers


def named_comment(permalink: str, settings: Settings) -> tuple[str, str] | None:
    """The fullnames of thread and comment; None without a permalink. Raises UserError if it is not the permalink of a comment."""
    if permalink and (ids := names.permalink_ids(permalink, settings.reddit.url)) is None:
        raise UserError(f"{permalink}: not the permalink of a comment, such as https://www.reddit.com/r/books/comments/1abc/title/k9z8y7x/")
    return ids if permalink else None


def read_one(client: Client, thread_id: str, comment_id: str, rules: FetchSettings) -> Thread:
    """The thread of one comment. Raises UserError if Reddit does not show it."""
    outcome, thread = reddit.read_comment(client, thread_id, comment_id, rules.replace_more_limit)
    if thread is None:
        raise UserError(f"{comment_id} in {thread_id} cannot be read ({outcome}); check the permalink")
    return thread


def fetch(run: Path, settings: Settings, limit: int | None, permalink: str = "") -> None:
    """Write the three files of a run folder. Raises UserError if one of them may not be written, or nothing can be read."""
    comments_csv, context_csv, skipped_csv = run / "comments.csv", run / "context.csv", run / "skipped.csv"
    for path in (comments_csv, context_csv, skipped_csv):
        files.check_output(path)
    made_from = {
        "fetch": settings.fetch.model_dump(mode="json"),
        "conduct": settings.conduct.model_dump(
            mode="json", include={"sensitive_subreddits", "subreddits_without_bots", "bots", "comment_classifier", "comment_threshold"}
        ),
        "source": "sandbox" if reddit.is_sandbox(settings.reddit.url) else "reddit",  # the sandbox's port may change when a run resumes
        "limit": limit,
        **({"permalink": permalink} if permalink else {}),
    }
    if all(files.is_current(path, made_from) for path in (context_csv, skipped_csv, comments_csv)):
        print(f"fetch: {comments_csv} exists and is current; nothing to do")
        return
    if not settings.fetch.subreddits and not permalink:
        raise WrongSettings(
            "fetch.subreddits is empty; `python run_bot.py init` writes a config with subreddits; `run --sandbox` needs none"
        )
    only = named_comment(permalink, settings)
    client = reddit.connect(settings.reddit)
    with cli.waiting("logging in"):
        us = reddit.account_name(client)
    unread: list[Skipped] = []
    answers: dict[str, Outcome] = {}
    if only:
        threads = [read_one(client, *only, settings.fetch)]
        settings = settings.model_copy(update={"fetch": settings.fetch.model_copy(update=ANY_COMMENT)})
    else:
        with cli.waiting("reading threads from Reddit"):
            threads, unread, answers = read_listed(client, settings.fetch)
    now = time.time()
    remember(settings.submit.ledger, ask_bots_away(threads), now)
    judge = partial(classifier.judge_pieces, conduct=settings.conduct)
    known = known_to(settings.submit.ledger, now)
    with cli.waiting("checking which comments may be answered"):
        comments, context, skipped = take_up(threads, settings, now, us, limit, known, judge, only[1] if only else "")
    skipped = unread + skipped

    schema.write_rows(context_csv, Context, context, made_from)
    schema.write_rows(skipped_csv, Skipped, skipped, made_from)
    schema.write_rows(comments_csv, Comment, comments, made_from, subreddits=answers)
    submissions = len({row.thread_id for row in comments})
    reasons = dict(Counter(row.reason for row in skipped).most_common(3))
    why = f" ({_counted(reasons)}, …)" if skipped else ""
    print(f"fetch: {len(comments)} comments of {submissions} submissions to answer; {len(skipped)} skipped{why}")


def _counted(parts: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in parts.items())
