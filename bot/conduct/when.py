"""when: may this reply be posted at this moment? Pure; every refusal is a `Refusal`.

    may_post       called twice by `submit` before each POST, the second time right before the intent is recorded

To add a refusal, add a member to `Refusal`, with its phrase, a line to `may_post`, and the facts that it needs to `Facts`. If the
reason is not in the reply itself, add the member to PASSING, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.schema import Phrased

if TYPE_CHECKING:
    from bot.config import SubmitSettings
    from bot.posting.ledger import Reply


class Refusal(Phrased):
    """Why a reply is not posted, in the order of the checks: the first that applies is recorded."""

    KILL_SWITCH = "kill_switch", "not posted, the kill switch file exists"
    PAUSED = "paused", "not posted, posting is paused"
    APPROVALS_UNREADABLE = "approvals_unreadable", "not posted, the approvals of its run cannot be read"
    REJECTED_BY_PERSON = "rejected_by_person", "not posted, a person rejected it"
    CHANGED_SINCE_APPROVAL = "changed_since_approval", "not posted, the comment or the candidates changed since a person approved it"
    NOT_APPROVED = "not_approved", "not posted, no person has approved it yet"
    APPROVAL_TIMEOUT = "approval_timeout", "not posted, no person approved it in time"
    WAITED_TOO_LONG = "waited_too_long", "not posted, too much time has passed"  # since the first attempt
    NOT_ALLOWED = "not_allowed", "not posted, no permission for this subreddit"  # the subreddit is not in submit.allowed
    BENCHED = "benched", "not posted, the subreddit is benched for a while"
    OPTED_OUT = "opted_out", "not posted, its author opted out of replies"
    ALREADY_IN_THREAD = "already_in_thread", "not posted, the bot has already replied in this thread"
    ASKED_TO_WAIT = "told_to_wait", "not posted, the site asked to wait"  # Reddit's rate limit, for the account or the subreddit
    HOUR_CAP = "hour_cap", "not posted, the hourly cap is reached"
    DAY_CAP = "day_cap", "not posted, the daily cap is reached"
    TOO_SOON = "too_soon", "not posted, too soon after the previous reply"  # the only refusal that `submit` waits for
    # `submit` itself checks the rest.
    NOT_CHOSEN = "not_chosen", "not posted, its verdict in chosen.csv is not «chosen»"
    ALREADY_REPLIED = "already_replied", "not posted, the comment already has a reply by the bot"
    EDITED = "edited", "not posted, the comment was edited since it was read"
    SUSPENDED = "suspended", "not posted, the account is suspended"
    IN_DOUBT = "in_doubt", "not posted, since it is unknown whether an earlier reply was posted"
    UNWELCOME = "unwelcome", "not posted, after several replies in a row were refused or removed"
    ACCOUNT_REFUSED = "account_refused", "not posted, since the site currently refuses the account"
    BLOCKED = "blocked", "not posted, since the site's network refuses this address"
    REFUSED_BY_NAME = "refused_by_name", "not posted, after two replies were refused for unknown reasons"


# These are temporary, or end when a person intervenes, so a waiting reply stays ready. After any other refusal it is never sent.
PASSING = frozenset(
    {
        Refusal.KILL_SWITCH,
        Refusal.PAUSED,
        Refusal.APPROVALS_UNREADABLE,
        Refusal.REJECTED_BY_PERSON,
        Refusal.CHANGED_SINCE_APPROVAL,
        Refusal.NOT_APPROVED,
        Refusal.APPROVAL_TIMEOUT,
        Refusal.ASKED_TO_WAIT,
        Refusal.HOUR_CAP,
        Refusal.DAY_CAP,
        Refusal.TOO_SOON,
        Refusal.SUSPENDED,
        Refusal.IN_DOUBT,
        Refusal.UNWELCOME,
        Refusal.ACCOUNT_REFUSED,
        Refusal.BLOCKED,
        Refusal.REFUSED_BY_NAME,
    }
)


# --- may it be posted now? --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """The current facts from the ledger and the machine; times are epoch seconds by the server's clock."""

    kill_switch: bool = False
    paused: bool = False
    approval: Refusal | None = None  # see posting/approvals.py
    benched: bool = False
    opted_out: bool = False
    sent_in_thread: int = 0
    sent_last_hour: int = 0
    sent_last_day: int = 0
    last_sent_utc: int | None = None
    not_before_utc: int | None = None


def may_post(now: int, reply: Reply, facts: Facts, rules: SubmitSettings) -> Refusal | None:
    """Why `reply` may not be posted now, or None."""
    if facts.kill_switch:
        return Refusal.KILL_SWITCH
    if facts.paused:
        return Refusal.PAUSED
    if facts.approval:
        return facts.approval
    if reply.tries and now - reply.first_utc > rules.maximum_wait_hours * 3600:
        return Refusal.WAITED_TOO_LONG
    if reply.subreddit.lower() not in {each.subreddit.lower() for each in rules.allowed}:
        return Refusal.NOT_ALLOWED
    if facts.benched:
        return Refusal.BENCHED
    if facts.opted_out:
        return Refusal.OPTED_OUT
    if facts.sent_in_thread:
        return Refusal.ALREADY_IN_THREAD
    if facts.not_before_utc is not None and now < facts.not_before_utc:
        return Refusal.ASKED_TO_WAIT
    if facts.sent_last_hour >= rules.posts_an_hour:
        return Refusal.HOUR_CAP
    if facts.sent_last_day >= rules.posts_a_day:
        return Refusal.DAY_CAP
    if facts.last_sent_utc is not None and now - facts.last_sent_utc < rules.minimum_pause_seconds:
        return Refusal.TOO_SOON
    return None
