"""TODO: bot.conduct.what.when"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bot.config import SubmitSettings
    from bot.posting.ledger import Reply


class Refusal(StrEnum):
    """Why a reply is not posted, in the order of asking: the first that fits is written down."""

    KILL_SWITCH = "kill_switch"  # the file submit.kill_switch is there
    PAUSED = "paused"
    WAITED_TOO_LONG = "waited_too_long"  # since the reply was first tried
    NOT_ALLOWED = "not_allowed"  # the subreddit is not in submit.allowed
    BENCHED = "benched"  # it didn't want us lately
    OPTED_OUT = "opted_out"
    ALREADY_IN_THREAD = "already_in_thread"
    TOLD_TO_WAIT = "told_to_wait"  # Reddit's rate limit, for the account
    HOUR_CAP = "hour_cap"
    DAY_CAP = "day_cap"
    TOO_SOON = "too_soon"  # after the last one; the only one that `submit` waits out
    # These `submit` finds out by itself.
    ALREADY_REPLIED = "already_replied"  # there is a reply of ours under the comment
    SUSPENDED = "suspended"  # our account
    IN_DOUBT = "in_doubt"  # after a reply of this run had to be parked
    UNWELCOME = "unwelcome"  # after a row of 403s or removals


# --- may it be posted now? --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger and the machine say at this moment; times are epoch seconds by the server's clock."""

    kill_switch: bool = False
    paused: bool = False
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
        return Refusal.TOLD_TO_WAIT
    if facts.sent_last_hour >= rules.posts_an_hour:
        return Refusal.HOUR_CAP
    if facts.sent_last_day >= rules.posts_a_day:
        return Refusal.DAY_CAP
    if facts.last_sent_utc is not None and now - facts.last_sent_utc < rules.minimum_pause_seconds:
        return Refusal.TOO_SOON
    return None
