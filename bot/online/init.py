"""init: ask a few questions and write a config.

Reads  the answers, from the terminal.
Writes OUT, a TOML file with comments. An existing file is never replaced.

    python run_bot.py init
    python run_bot.py init --out my.toml

Credentials are not asked for: they belong in the environment or praw.ini, never into a config.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import ValidationError

from bot import files, names
from bot.cli import UserError
from bot.config import Allowed
from bot.posting.operate import USER
from bot.reddit.client import USER_AGENT

Value = TypeVar("Value")

TEMPLATE = """\
# Settings of the bot. config.example.toml has all settings, with their defaults.
# Credentials are not part of it: set praw_client_id, praw_client_secret, praw_username and praw_password in the environment, or write a
# praw.ini. https://www.reddit.com/prefs/apps creates the first two (an app of type "script").

[reddit]
user_agent = {user_agent}

[fetch]
subreddits = {subreddits}
listing = "rising"  # or "hot", "new"
submissions = 5  # of each subreddit

[submit]
# Nothing is posted without `run --post`, and then only where a moderator permitted it:
{allowed}
"""

EXAMPLE = """\
# [[submit.allowed]]
# subreddit = {subreddit}
# permitted_by = "u/name_of_a_moderator, in a message of 1 May"
"""


def config_text(subreddits: Sequence[str], user_agent: str, permitted_by: Mapping[str, str]) -> str:
    """The config. permitted_by: subreddit -> who permitted the bot to post there; others are not posted in."""
    blocks = [f"[[submit.allowed]]\nsubreddit = {toml(name)}\npermitted_by = {toml(who)}\n" for name, who in permitted_by.items()]
    allowed = "\n".join(blocks) or EXAMPLE.format(subreddit=toml(subreddits[0]))
    return TEMPLATE.format(user_agent=toml(user_agent), subreddits=toml([*subreddits]), allowed=allowed.rstrip())


def toml(value: str | list[str]) -> str:
    """A text or a list of texts in TOML's notation, which is that of JSON, except for surrogate pairs and DEL.

    >>> toml("\N{GRINNING FACE} \x7f"), toml(["a"])
    ('"😀 \\\\u007f"', '["a"]')
    """
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def subreddit_names(written: str) -> list[str]:
    """
    >>> subreddit_names("r/Books, askhistorians books")
    ['books', 'askhistorians']

    Raises:
        ValueError: one of them is not the name of a subreddit, or there is none.
    """
    result = [names.subreddit_name(each) for each in written.replace(",", " ").split()]
    if not result:
        raise ValueError("give at least one subreddit")
    return list(dict.fromkeys(result))


def account_of(written: str) -> str:
    """Raises ValueError if it is not the name of an account.

    >>> account_of("u/some_bot")
    'some_bot'
    """
    name = written.strip().removeprefix("/").removeprefix("u/")
    if not USER.fullmatch(name):
        raise ValueError("give a name of 3 to 20 letters, digits, _ and -")
    return name


def permission_of(written: str) -> str:
    """Raises ValueError if it does not say who."""
    try:
        return Allowed(subreddit="books", permitted_by=written).permitted_by
    except ValidationError:
        raise ValueError("say who gave permission and where, for example: u/name_of_a_moderator, in a message of 1 May") from None


def user_agent_of(written: str) -> str:
    """Raises ValueError if it does not have the form that Reddit requires."""
    if not USER_AGENT.fullmatch(written):
        raise ValueError("the form is <platform>:<app id>:<version> (by /u/<you>)")
    return written


def ask(question: str, parse: Callable[[str], Value], **options: Any) -> Value:
    """The answer to a question, asked again until it can be parsed."""
    while True:
        try:
            return parse(typer.prompt(question, **options))
        except ValueError as error:
            print(f"  {error}")


def main(out: Annotated[Path, typer.Option(help="the config to write")] = Path("bot.toml")) -> None:
    """Ask a few questions and write a config."""
    if out.exists():
        raise files.FileError(f"{out}: already exists; edit it, or give another --out")
    files.check_output(out)
    try:
        content = answers_as_config()
    except typer.Abort:
        raise UserError("no answer, so nothing was written; repeat the command") from None
    with files.atomic_writer(out) as file:
        file.write(content)
    post = " --post" if "\n[[submit.allowed]]" in content else ""
    print(f"{out}")
    print(f"next: `python run_bot.py doctor --config {out}`, then `python run_bot.py run --config {out}{post}`")


def answers_as_config() -> str:
    """Ask, and return the config. Raises typer.Abort at the end of input."""
    subreddits = ask("Subreddits to read, separated by spaces", subreddit_names)
    account = ask("Name of the bot's account on Reddit", account_of)
    usual = f"{platform.system().lower()}:reply-bot:0.1 (by /u/{account})"
    user_agent = ask("User agent, which Reddit requires", user_agent_of, default=usual)
    permitted_by = {}
    if typer.confirm("Post replies? Without it, runs are dry: nothing is sent", default=False):
        for name in subreddits:
            permitted_by[name] = ask(f"Who gave permission to post in r/{name}, and where", permission_of)
    return config_text(subreddits, user_agent, permitted_by)
