"""reasons: the reasons why a comment is not answered, each with the phrase that pages show."""

from __future__ import annotations

from bot.schema import Phrased


class Reason(Phrased):
    """Why a comment is not answered, in the order of the checks: the first that applies is recorded."""

    OWN_COMMENT = "own_comment", "written by the bot's own account"
    REMOVED = "removed", "removed by a moderator or by Reddit"
    DELETED = "deleted", "deleted by its author"
    DELETED_AUTHOR = "deleted_author", "its author's account was deleted"  # the text still exists
    OPTED_OUT = "opted_out", "its author or the submission's author opted out of replies"
    TOO_LONG = "too_long", "10,000 characters or more"
    EMPTY = "empty", "no text except quotes and links"
    BOT_AUTHOR = "bot_author", "written by a bot"
    SENSITIVE_SUBREDDIT = "sensitive_subreddit", "in a subreddit about grief, crisis, illness, advice, or for minors"
    BOTS_FORBIDDEN = "bots_forbidden", "in a subreddit whose rules forbid bots"
    BENCHED = "benched", "in a subreddit that recently refused or removed the bot's replies"
    # The subject of the comment, a comment above it, or the submission. These six and the next three are also the classifier's
    # categories.
    CRISIS = "crisis", "about suicide, self-harm or despair"
    ABUSE = "abuse", "about abuse, violence or danger"
    EMERGENCY = "emergency", "about a medical, legal or other emergency"
    GRIEF = "grief", "about a death, grief or a serious illness"
    ADDICTION = "addiction", "about addiction or a relapse"
    MINOR = "minor", "apparently written by a child"
    NO_BOTS = "no_bots", "asks bots to stay away"
    DISASTER = "disaster", "in a thread about a disaster or a crime"
    SENSITIVE_THREAD = "sensitive_thread", "in a thread with a trigger warning, or one that asks for support"
    SERIOUS = "serious", "in a thread that asks for serious replies only"
    THREAD_REMOVED = "thread_removed", "its submission was removed or deleted"
    QUARANTINED = "quarantined", "in a quarantined subreddit"
    NSFW = "nsfw", "its submission is marked NSFW (over 18)"
    LOCKED = "locked", "the comment or its submission is locked"
    ARCHIVED = "archived", "its submission is archived"
    STICKIED = "stickied", "the comment or its submission is pinned by a moderator"
    ALREADY_REPLIED_BY_US = "already_replied_by_us", "the bot has replied to it before"
    ALREADY_IN_THREAD = "already_in_thread", "the bot has replied to another comment of this submission before"
    TRIED_BEFORE = "tried_before", "a reply to it was refused earlier, or is waiting to be sent"
    TOO_DEEP = "too_deep", "deeper in its thread than the settings allow"
    TOO_OLD = "too_old", "older than the settings allow"
    LOW_KARMA = "low_karma", "less karma than the settings require"
    OVER_LIMIT = "over_limit", "could have been answered, but the limit of the run was reached"
    BEHIND_MORE = "behind_more", "behind a «more comments» link that was not expanded, so only its id is known"
    SAME_ID = "same_id", "a duplicate of a comment"
    UNREADABLE = "unreadable_thread", "a whole thread that Reddit did not show"  # the row has the thread's id
