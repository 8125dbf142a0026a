"""Rows of the store in the formats of Reddit's API. Pure."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

# Much smaller than Reddit's, so that a seeded thread exceeds them.
TREE_SIZE = 25  # comments in one response; the rest is behind a «more» node
TREE_DEPTH = 6  # levels before «continue this thread»

Json = dict[str, Any]


def submission_json(row: sqlite3.Row, num_comments: int, host: str) -> Json:
    """host: the sandbox's URL without a trailing slash."""
    link = permalink(row)
    return {
        "kind": "t3",
        "data": {
            "id": row["name"][3:],
            "name": row["name"],
            "subreddit": row["subreddit"],
            "subreddit_name_prefixed": f"r/{row['subreddit']}",
            "author": row["author"],
            "title": row["title"],
            "selftext": row["text"],
            "is_self": True,
            "score": row["karma"],
            "ups": row["karma"],
            "num_comments": num_comments,
            "created_utc": float(row["created_utc"]),
            "over_18": bool(row["over_18"]),
            "locked": bool(row["locked"]),
            "archived": bool(row["archived"]),
            "stickied": False,
            "quarantine": False,
            "removed_by_category": None,
            "link_flair_text": None,
            "edited": False,
            "permalink": link,
            "url": host + link,
        },
    }


def comment_json(row: sqlite3.Row, submission: sqlite3.Row, depth: int | None = None, replies: list[Json] | None = None) -> Json:
    """depth: None outside a thread, in listings."""
    data = {
        "id": row["name"][3:],
        "name": row["name"],
        "link_id": row["link_id"],
        "parent_id": row["parent_id"],
        "subreddit": submission["subreddit"],
        "subreddit_name_prefixed": f"r/{submission['subreddit']}",
        "author": row["author"],
        "body": row["body"],
        "score": row["karma"],
        "ups": row["karma"],
        "score_hidden": False,
        "created_utc": float(row["created_utc"]),
        "edited": False,
        "stickied": False,
        "distinguished": "moderator" if row["author"] == "AutoModerator" else None,
        "locked": bool(submission["locked"]),
        "archived": bool(submission["archived"]),
        "over_18": bool(submission["over_18"]),
        "is_submitter": row["author"] == submission["author"],
        "link_title": submission["title"],
        "permalink": f"{permalink(submission)}{row['name'][3:]}/",
        "replies": listing(replies) if replies else "",
    }
    if depth is not None:
        data["depth"] = depth
    return {"kind": "t1", "data": data}


def subreddit_json(row: sqlite3.Row) -> Json:
    data = {
        "id": row["name"][-5:],
        "name": f"t5_{row['name'][-5:]}",
        "display_name": row["name"],
        "title": row["title"],
        "subreddit_type": row["kind"],
        "over18": False,
        "quarantine": False,
        "user_is_banned": bool(row["bans_us"]),
        "subscribers": 1000,
    }
    return {"kind": "t5", "data": data}


def letter_json(row: sqlite3.Row, dest: str) -> Json:
    """A private message to `dest`."""
    data = {key: row[key] for key in ("name", "author", "subject", "body")}
    data |= {"id": row["name"][3:], "created_utc": float(row["created_utc"]), "dest": dest}
    return {
        "kind": "t4",
        "data": data | {"was_comment": False, "new": bool(row["unread"]), "parent_id": None, "replies": "", "subreddit": None},
    }


def comment_reply_json(comment: Json, unread: bool, dest: str) -> Json:
    """A comment in the inbox of `dest`, to whom it replies."""
    context = f"{comment['data']['permalink']}?context=3"
    letter = {
        "was_comment": True,
        "new": bool(unread),
        "subject": "comment reply",
        "type": "comment_reply",
        "dest": dest,
        "context": context,
    }
    return {**comment, "data": comment["data"] | letter}


def listing(children: list[Json], after: str | None = None) -> Json:
    return {"kind": "Listing", "data": {"children": children, "after": after, "before": None, "dist": len(children), "modhash": None}}


def permalink(submission: sqlite3.Row) -> str:
    slug = re.sub(r"\W+", "_", submission["title"].lower()).strip("_")[:50]
    return f"/r/{submission['subreddit']}/comments/{submission['name'][3:]}/{slug}/"


def ago(created_utc: int, now: float) -> str:
    """How long ago, for a page.

    >>> ago(0, 7300)
    '2 hours ago'
    """
    seconds = max(0, int(now - created_utc))
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}{'s' * (seconds >= 2 * size)} ago"
    return "just now"


# --- trees --------------------------------------------------------------------------------------------------------------


def children(rows: list[sqlite3.Row]) -> dict[str, list[sqlite3.Row]]:
    below: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        below.setdefault(row["parent_id"], []).append(row)
    return below


def count(below: dict[str, list[sqlite3.Row]], name: str) -> int:
    """A comment and everything below it."""
    return 1 + sum(count(below, row["name"]) for row in below.get(name, []))


class Cut:
    """The part of a thread in one response: at most `room` comments and TREE_DEPTH levels; «more» nodes represent the rest."""

    def __init__(self, submission: sqlite3.Row, comments: list[sqlite3.Row], room: int) -> None:
        self.submission = submission
        self.below = children(comments)
        self.room = room

    def nodes(self, parent: str, rows: list[sqlite3.Row], depth: int = 0, flat: bool = False) -> list[Json]:
        """The rows, replies to `parent`, each with the comments below it: nested, or after it if `flat`."""
        if rows and depth >= TREE_DEPTH:
            return [more(parent, [], 0, depth)]
        nodes: list[Json] = []
        for place, row in enumerate(rows):
            if self.room <= 0:
                hidden = [each["name"] for each in rows[place:]]
                return [*nodes, more(parent, hidden, sum(count(self.below, name) for name in hidden), depth)]
            self.room -= 1
            replies = self.nodes(row["name"], self.below.get(row["name"], []), depth + 1, flat)
            nodes += [comment_json(row, self.submission, depth, None if flat else replies), *(replies if flat else [])]
        return nodes


def more(parent: str, children: list[str], count: int, depth: int) -> Json:
    """A «more» node; with count 0 and no children it is «continue this thread»."""
    first = children[0][3:] if children else "_"
    bare = [name[3:] for name in children]
    data = {"count": count, "name": f"t1_{first}", "id": first, "parent_id": parent, "depth": depth, "children": bare}
    return {"kind": "more", "data": data}
