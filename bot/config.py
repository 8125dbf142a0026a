"""Typed settings. Later sources override earlier ones: defaults, the TOML file given with --config, environment variables such as
`BOT_GENERATE__TEMPERATURE=0.7`.

`config.example.toml` documents every setting with its default, unit and purpose; a test checks that it matches this module. Credentials
are not settings: they come only from the environment or praw.ini (see reddit/client.py).
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from bot import names, text
from bot.cli import ROOT, WrongSettings

# [project.]dataset.table, with {month} exactly once in the table name. These names are inserted into SQL, so nothing else is allowed.
_TABLE = r"^([a-z0-9:-]+\.)?\w+\.[\w-]*\{month\}[\w-]*$"

Precision = Literal["int8", "float32", "bfloat16"]

_HOW_TO_STOP = "Reply `!stop` and I will never answer you again, or `!delete` and I will remove this comment.*"
DISCLOSURE = f"*I am a bot; this reply was written by a program, and nobody read it before it was posted. {_HOW_TO_STOP}"
APPROVED_DISCLOSURE = f"*I am a bot; this reply was written by a program and approved by a person. {_HOW_TO_STOP}"


# Credentials are recognized by a word in their name, by the ending of their name, or by a user name and password in a URL.
_SECRET_WORDS = frozenset(
    (
        *("secret", "token", "password", "passwd", "passphrase", "passcode", "passwort", "kennwort", "pass", "pwd", "pw", "auth"),
        *("authorization", "bearer", "key", "apikey", "cookie", "credential", "credentials", "session", "login", "jwt"),
    )
)
_SECRET_ENDS = ("clientid", "username", "secret", "token", "password", "passwort", "passwd", "apikey", "cookie", "bearer", "pwd")
_CREDENTIAL_IN_URL = re.compile(r"://[^/\s@]*:[^/\s@]*@")
_NOT_SETTINGS = ("BOT_BASES", "BOT_RESTARTED")  # the folder of base weights (weights/bases.py), and a mark of __main__.py


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def _not_empty(path: Any) -> Any:
    """Raises ValueError for an empty text, which as a path would mean the current folder."""
    if isinstance(path, str) and not path.strip():
        raise ValueError("empty; set the folder of a model")
    return path


def _project_folder(path: Path) -> Path:
    """The same path inside the project if it does not exist here, so that commands find the shipped models from any folder."""
    return ROOT / path if not path.exists() and (ROOT / path).is_dir() else path


ModelFolder = Annotated[Path, BeforeValidator(_not_empty), AfterValidator(_project_folder)]
SubredditName = Annotated[str, AfterValidator(names.subreddit_name)]


class FetchSettings(Section):
    subreddits: list[SubredditName] = []
    listing: Literal["rising", "hot", "new"] = "rising"
    submissions: int = Field(default=5, ge=1, le=100)
    depth: int = Field(default=2, ge=0, le=20)
    minimum_karma: int = 1
    maximum_age_hours: float = Field(default=24.0, gt=0)
    replace_more_limit: int = Field(default=4, ge=0)

    @field_validator("subreddits")
    @classmethod
    def _each_once(cls, value: list[str]) -> list[str]:
        return list(dict.fromkeys(value))


class GenerateSettings(Section):
    backend: str = ""  # empty: the first entry of the back-end table
    precision: Precision = "int8"
    model: ModelFolder = Path("models/lm")
    num_candidates: int = Field(default=10, ge=1, le=1000)
    temperature: float = Field(default=0.6, gt=0, le=5)
    top_k: int = Field(default=200, ge=1)
    top_p: float = Field(default=0.9, gt=0, le=1)
    repetition_penalty: float = Field(default=1.0, ge=1, le=5)
    min_new_tokens: int = Field(default=0, ge=0, le=512)
    max_new_tokens: int = Field(default=60, ge=1, le=512)
    max_prompt_tokens: int = Field(default=96, ge=16, le=900)
    batch_size: int = Field(default=40, ge=1)
    beam_width: int = Field(default=1, ge=1, le=100)

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(f"min_new_tokens {self.min_new_tokens} is greater than max_new_tokens {self.max_new_tokens}")
        return self


class RankWeights(Section):
    """See rankers.score.rank_score."""

    intercept: float = 0.9397
    realism: float = Field(default=0.0, ge=0)
    upvote: float = Field(default=0.0, ge=0)
    relevance: float = Field(default=0.1258, ge=0)
    choice: float = Field(default=1.0372, ge=0)
    likelihood: float = Field(default=0.068, ge=0)
    repetition: float = Field(default=0.0, ge=0)


class RankSettings(Section):
    backend: str = ""  # empty: the first entry of the back-end table
    precision: Precision = "int8"
    realism: ModelFolder | None = Path("models/realism")
    upvote: ModelFolder | None = Path("models/upvote")
    relevance: ModelFolder | None = Path("models/relevance")
    choice: ModelFolder | None = Path("models/choice")
    batch_size: int = Field(default=8, ge=1)
    weights: RankWeights = RankWeights()

    @field_validator("realism", "upvote", "relevance", "choice", mode="before")
    @classmethod
    def _empty_means_none(cls, value: Any) -> Any:
        """TOML and environment variables cannot express None, and an empty path would mean the current folder."""
        return None if value == "" else value


class ChooseSettings(Section):
    minimum_realism: float = Field(default=0.1, ge=0, le=1)
    minimum_rank: float = Field(default=0.29, ge=0, le=1)
    minimum_words: int = Field(default=4, ge=1, le=100)


class ConductSettings(Section):
    sensitive_subreddits: list[str] = []
    subreddits_without_bots: list[str] = []
    bots: list[str] = []
    maximum_characters: int = Field(default=1000, ge=1, le=10_000)
    comment_classifier: ModelFolder | None = Path("models/conduct-comment")
    reply_classifier: ModelFolder | None = Path("models/conduct-reply")
    comment_threshold: float = Field(default=0.28, ge=0, le=1)
    reply_threshold: float = Field(default=0.3, ge=0, le=1)
    toxicity_model: ModelFolder | None = None
    maximum_toxicity: float = Field(default=0.5, ge=0, le=1)
    maximum_similarity: float = Field(default=0.95, ge=0.5, le=1)
    withdraw_at_karma: int = Field(default=-1, le=0)

    @field_validator("toxicity_model", "comment_classifier", "reply_classifier", mode="before")
    @classmethod
    def _empty_means_none(cls, value: Any) -> Any:
        return None if value == "" else value


class Allowed(Section):
    """A subreddit where the bot may post, and who gave permission and where."""

    subreddit: SubredditName
    permitted_by: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, pattern=r"[^\W\d_].*[^\W\d_]")]


class SubmitSettings(Section):
    allowed: list[Allowed] = []
    posts_an_hour: int = Field(default=4, ge=0)
    posts_a_day: int = Field(default=20, ge=0)
    minimum_pause_seconds: int = Field(default=60, ge=0)
    maximum_wait_hours: float = Field(default=6.0, ge=0)
    approval: Literal["", "required", "none"] = ""
    approval_timeout_hours: float = Field(default=12.0, gt=0, le=87_600)
    approval_timeout: Literal["not_posted", "post"] = "not_posted"
    disclosure: str = DISCLOSURE
    approved_disclosure: str = APPROVED_DISCLOSURE
    ledger: Path = Path("data/ledger.sqlite")
    kill_switch: Path = Path("data/STOP")

    @field_validator("disclosure", "approved_disclosure")
    @classmethod
    def _discloses_bot(cls, value: str) -> str:
        if not text.discloses(value):
            raise ValueError('it must contain "I am a bot" and tell users about `!stop`')
        return value

    @field_validator("disclosure")
    @classmethod
    def _claims_no_approval(cls, value: str) -> str:
        if re.search(r"approved", value, re.IGNORECASE):
            raise ValueError("it must not say that a reply was approved; approved_disclosure is for replies that a person approved")
        return value


class BigQuerySettings(Section):
    project: str = Field(default="", pattern=r"^[a-z0-9.:-]*$")
    comments: str = Field(default="reddit_comments.{month}", pattern=_TABLE)
    submissions: str = Field(default="reddit_posts.{month}", pattern=_TABLE)
    location: str = Field(default="US", pattern=r"^[A-Za-z0-9-]+$")
    endpoint: str = ""


class RedditSettings(Section):
    url: str = ""
    user_agent: str = "linux:reply-bot:0.1 (by /u/unknown)"
    timeout_seconds: float = Field(default=30.0, gt=0)


class WebSettings(Section):
    url: str = Field(default="", pattern=r"^(https?://[^/\s@]+/?)?$")
    state: Path = Path("data/web.json")
    redis_url: str = Field(default="", pattern=r"^((rediss?|unix)://\S+)?$")
    chat: Path = Path("data/chat.jsonl")

    @field_validator("url")
    @classmethod
    def _as_browsers_write_it(cls, value: str) -> str:
        return re.sub(r"^(http://[^/]*):80(?=/|$)|^(https://[^/]*):443(?=/|$)", r"\1\2", value.lower())


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BOT_", env_nested_delimiter="__", extra="forbid", frozen=True)

    fetch: FetchSettings = Field(default_factory=FetchSettings)
    generate: GenerateSettings = Field(default_factory=GenerateSettings)
    rank: RankSettings = Field(default_factory=RankSettings)
    choose: ChooseSettings = Field(default_factory=ChooseSettings)
    conduct: ConductSettings = Field(default_factory=ConductSettings)
    submit: SubmitSettings = Field(default_factory=SubmitSettings)
    reddit: RedditSettings = Field(default_factory=RedditSettings)
    bigquery: BigQuerySettings = Field(default_factory=BigQuerySettings)
    web: WebSettings = Field(default_factory=WebSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the file's content is passed to init; environment variables override it


def is_credential(name: str) -> bool:
    """True if the name of an entry or a variable suggests a credential.

    >>> [is_credential(name) for name in ("BOT_REDDIT__PWD", "ApiKey", "db-passwort", "praw_client_id", "max_new_tokens", "kill_switch")]
    [True, True, True, True, False, False]
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\dA-Z_]+", name)]
    return not _SECRET_WORDS.isdisjoint(words) or "".join(words).endswith(_SECRET_ENDS)


def credentials(content: Any, where: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Paths of the entries, at any depth, that look like credentials or contain credentials in a URL.

    >>> credentials({"reddit": {"password": "x", "url": "http://a:b@c"}, "fetch": {"depth": 2}})
    [('reddit', 'password'), ('reddit', 'url')]
    """
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    places = []
    for name, value in entries:
        if is_credential(str(name)) or (isinstance(value, str) and _CREDENTIAL_IN_URL.search(value)):
            places.append((*where, name))
        else:
            places += credentials(value, (*where, name))
    return places


def line_of(content: str, place: Sequence[str | int]) -> str:
    """The line of an entry in a TOML text, as " line N". The line of its table if the entry is not found; empty if neither is found.

    >>> line_of("[reddit]\\n\\npwd = 1\\n", ["reddit", "pwd"]), line_of("reddit.url = 1", ["reddit", "url"]), line_of("", ["x"])
    (' line 3', ' line 1', '')
    """
    best, line, table = 0, "", []
    seen: Counter[tuple[str | int, ...]] = Counter()
    for number, each in enumerate(content.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)([^\[\]]+)\]", each):
            table = _names(header[2])
            if header[1] == "[[":
                seen[tuple(table)] += 1
                table = [*table, seen[tuple(table)] - 1]
            path = table
        elif key := re.match(r"\s*([^=#]+?)\s*=", each):
            path = [*table, *_names(key[1])]
        else:
            continue
        if best < len(path) <= len(place) and path == list(place[: len(path)]):
            best, line = len(path), f" line {number}"
    return line


def _names(dotted: str) -> list[str | int]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


def is_unknown_setting(variable: str) -> bool:
    """True if an environment variable has the prefix of settings but names no section. Pydantic would silently ignore it.

    >>> names = ("BOT_CHOSE__MINIMUM_REALISM", "BOT_CHOOSE__MINIMUM_REALISM", "bot_rank_upvote", "PATH")
    >>> [is_unknown_setting(name) for name in names]
    [True, False, True, False]
    """
    prefix, section = variable[:4].upper(), variable[4:].partition("__")[0].lower()
    return prefix == "BOT_" and section not in Settings.model_fields and variable.upper() not in _NOT_SETTINGS


def setting_names(model: type[BaseModel] | None = None, prefix: str = "") -> list[str]:
    """The names of all sections and settings, such as "fetch.depth"."""
    names_here = []
    for name, field in (model or Settings).model_fields.items():
        names_here.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names_here += setting_names(field.annotation, f"{prefix}{name}.")
    return names_here


def variable_names() -> list[str]:
    """The environment variables of all settings.

    >>> "BOT_RANK__WEIGHTS__CHOICE" in variable_names()
    True
    """
    return [f"BOT_{name.replace('.', '__').upper()}" for name in setting_names() if "." in name]


def meant(name: str, known: Sequence[str]) -> str:
    """A question that names the closest known name; empty if none is close. The same name in another section is close too.

    >>> meant("fetch.subredits", setting_names()), meant("generate.minimum_words", setting_names()), meant("xyz", setting_names())
    (' (did you mean fetch.subreddits?)', ' (did you mean choose.minimum_words?)', '')
    >>> meant("subreddits", setting_names()), meant("chose", setting_names())
    (' (did you mean fetch.subreddits?)', ' (did you mean choose?)')
    """
    last, of_its_level = name.rpartition(".")[2], [each for each in known if ("." in each) == ("." in name)]
    close = [each for each in known if "." in each and each.rpartition(".")[2] == last]
    close = close or difflib.get_close_matches(name, of_its_level, n=1, cutoff=0.75)
    return f" (did you mean {' or '.join(close)}?)" if close else ""


def load(path: Path | None) -> Settings:
    """Read the settings from a TOML file and the environment. path: None for the defaults.

    Raises:
        WrongSettings: the file does not exist, is not TOML or contains a credential; or a setting or variable is unknown or out of range.
            The message contains the name, file and line, but never the value, which may be a password.
    """
    source, content = _read(path) if path is not None else ("", {})
    variables = [name for name in os.environ if name.upper().startswith("BOT_") and is_credential(name)]
    places = credentials(content)
    if places or variables:
        name = ".".join(map(str, places[0])) if places else variables[0]
        raise WrongSettings(
            f"{f'{path}:{line_of(source, places[0])}' if places else 'environment'}: {name} is a credential; remove it and set"
            " praw_client_id, praw_client_secret, praw_username and praw_password in the environment, or write a praw.ini; change a"
            " password that was shared in a file"
        )
    if unknown := next((name for name in os.environ if is_unknown_setting(name)), None):
        raise WrongSettings(
            f"{unknown}: no such setting{meant(unknown.upper(), variable_names())}; use BOT_SECTION__NAME, with one of the sections"
            f" {', '.join(Settings.model_fields)}"
        )
    if wrong := next((name for name in content if name not in Settings.model_fields), None):  # pydantic would take some for its own
        file, hint = f"{path}:{line_of(source, [wrong])}", meant(wrong, setting_names())
        raise WrongSettings(f"{file} setting {text.printable(wrong)}: no such setting{hint}; see config.example.toml")
    try:
        return Settings(**content)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_context=False)
        first = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])  # it may cause the others
        place = first["loc"]
        name = ".".join(map(str, place))
        set_there = ["BOT_" + "__".join(map(str, place[:length])).upper() for length in range(len(place), 0, -1)]
        variable = next((each for wanted in set_there for each in os.environ if each.upper() == wanted), None)
        file = f"{path}:{line_of(source, place)}" if path is not None else "environment:"
        problem = f"no such setting{meant(name, setting_names())}" if first["type"] == "extra_forbidden" else first["msg"]
        problem = problem.removeprefix("Value error, ")
        raise WrongSettings(f"{f'{variable}:' if variable else file} setting {name}: {problem}; see config.example.toml") from None
    except SettingsError:
        name = next(filter(_is_no_json, os.environ), "environment")
        raise WrongSettings(f"""{name}: not readable as JSON; write a list as BOT_FETCH__SUBREDDITS='["a", "b"]'""") from None


def _is_no_json(variable: str) -> bool:
    """True for a variable of a section, or of a setting with several values, whose value is not JSON."""
    model: Any = Settings
    for part in variable[4:].lower().split("__"):
        field = getattr(model, "model_fields", {}).get(part)
        if field is None or not variable.upper().startswith("BOT_"):
            return False
        model = field.annotation
    if not hasattr(model, "model_fields") and get_origin(model) not in (list, tuple, dict):
        return False
    try:
        json.loads(os.environ[variable])
    except ValueError:
        return True
    return False


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    """The text and the content of a config file."""
    try:
        source = path.read_text(encoding="utf-8-sig")  # some editors write a byte order mark
        return source, tomllib.loads(source)
    except (FileNotFoundError, NotADirectoryError):
        raise WrongSettings(f"{path}: no such config file; copy config.example.toml and edit it") from None
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"\(at (line \d+, column \d+|end of document)\)$", str(error))
        raise WrongSettings(f"{path}: not readable as TOML ({place[1] if place else 'invalid syntax'}); see config.example.toml") from None
    except (UnicodeDecodeError, IsADirectoryError, RecursionError) as error:
        reasons = {UnicodeDecodeError: "not UTF-8", IsADirectoryError: "a folder", RecursionError: "nested too deeply"}
        reason = reasons[type(error)]
        raise WrongSettings(f"{path}: not readable as TOML ({reason}); see config.example.toml") from None
