"""when: may this reply be posted at this moment? Pure; every refusal is a `Refusal`.

    may_post       asked by `submit` twice before each POST, the second time as the last thing before the intent is written down

A new refusal is a member of `Refusal`, with its phrase, a line in `may_post`, and what it needs to know in `Facts`; and of PASSING too, if
it says nothing against the reply itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bot.schema import Phrased

if TYPE_CHECKING:
    from bot.config import SubmitSettings
    from bot.posting.ledger import Reply


class Refusal(Phrased):
    """Why a reply is not posted, in the order of asking: the first that applies is written down."""

    KILL_SWITCH = "kill_switch", "not posted, the file that stops everything is there"
    PAUSED = "paused", "not posted, posting is paused"
    WAITED_TOO_LONG = "waited_too_long", "not posted, too late to be read"  # since the reply was first tried
    NOT_ALLOWED = "not_allowed", "not posted, nobody permitted the bot there"  # the subreddit is not in submit.allowed
    BENCHED = "benched", "not posted, the subreddit is left in peace for a while"
    OPTED_OUT = "opted_out", "not posted, its author asked not to be replied to"
    ALREADY_IN_THREAD = "already_in_thread", "not posted, the thread has a reply of the bot's"
    ASKED_TO_WAIT = "told_to_wait", "not posted, the site asked to wait"  # Reddit's rate limit, for the account or the subreddit
    HOUR_CAP = "hour_cap", "not posted, enough for this hour"
    DAY_CAP = "day_cap", "not posted, enough for this day"
    TOO_SOON = "too_soon", "not posted, too soon after the last one"  # the only one that `submit` waits out
    # The rest is up to `submit` itself.
    NOT_CHOSEN = "not_chosen", "not posted, its row in chosen.csv says that it is not chosen"
    ALREADY_REPLIED = "already_replied", "not posted, a reply of the bot's stands there"
    EDITED = "edited", "not posted, the comment was edited since it was read"
    SUSPENDED = "suspended", "not posted, the account is suspended"
    IN_DOUBT = "in_doubt", "not posted, since one before it may be there or not"
    UNWELCOME = "unwelcome", "not posted, after replies that were refused or removed in a row"
    ACCOUNT_REFUSED = "account_refused", "not posted, since the site refuses the account for now"
    BLOCKED = "blocked", "not posted, since the site's network refuses this address"
    REFUSED_BY_NAME = "refused_by_name", "not posted, after two replies that were refused by names that the bot doesn't know"


# These pass by themselves or when a person changes something, so a reply that waits stays ready. After any other refusal it never is.
PASSING = frozenset(
    {
        Refusal.KILL_SWITCH,
        Refusal.PAUSED,
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
        return Refusal.ASKED_TO_WAIT
    if facts.sent_last_hour >= rules.posts_an_hour:
        return Refusal.HOUR_CAP
    if facts.sent_last_day >= rules.posts_a_day:
        return Refusal.DAY_CAP
    if facts.last_sent_utc is not None and now - facts.last_sent_utc < rules.minimum_pause_seconds:
        return Refusal.TOO_SOON
    return None
