"""bot.config: precedence of defaults, file and environment, and error messages of one line."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from bot import config
from bot.cli import ROOT, UserError
from bot.config import RankWeights, Settings, load

EXAMPLE = ROOT / "config.example.toml"
# Settings whose default is None, which TOML cannot express: they are commented out in the example.
UNSET = {"conduct.toxicity_model"}


def sections() -> dict[str, type[BaseModel]]:
    models = {}
    for name, field in Settings.model_fields.items():
        assert isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        models[name] = field.annotation
    return models


def write_config(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "bot.toml"
    path.write_text(content, encoding="utf-8")
    return path


def refusal(path: Path | None) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_misspelt_setting_names_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, meant in (
        (
            "[fetch]\nsubreddits = ['x']\nsubmissons = 3",
            "line 3 setting fetch.submissons: no such setting (did you mean fetch.submissions?)",
        ),
        ("[chose]\nminimum_words = 3", "line 1 setting chose: no such setting (did you mean choose?)"),
        ("[generate]\nminimum_words = 3", "line 2 setting generate.minimum_words: no such setting (did you mean choose.minimum_words?)"),
        ("[rank.weights]\nrealsim = 3", "line 2 setting rank.weights.realsim: no such setting (did you mean rank.weights.realism?)"),
        ("[generate]\nqqq = 3", "line 2 setting generate.qqq: no such setting; see"),
    ):
        assert meant in refusal(write_config(tmp_path, content))
    monkeypatch.setenv("BOT_FETCH__SUBREDITS", "[]")
    assert "BOT_FETCH__SUBREDITS" in refusal(None) and "did you mean fetch.subreddits?" in refusal(None)
    monkeypatch.delenv("BOT_FETCH__SUBREDITS")
    monkeypatch.setenv("BOT_CHOSE__MINIMUM_WORDS", "3")
    assert "did you mean BOT_CHOOSE__MINIMUM_WORDS?" in refusal(None)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "bot.toml").write_bytes(b"\xef\xbb\xbf[fetch]\ndepth = 3\n")
    assert load(tmp_path / "bot.toml").fetch.depth == 3


# --- the example ------------------------------------------------------------------------------------------------------------


def test_the_example_equals_the_defaults() -> None:
    assert load(EXAMPLE) == load(None) == Settings()


def test_the_example_has_every_setting_and_no_other() -> None:
    content = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    expected = {f"{section}.{name}" for section, model in sections().items() for name in model.model_fields}
    assert {f"{section}.{name}" for section, values in content.items() for name in values} == expected - UNSET
    assert content["rank"]["weights"].keys() == RankWeights.model_fields.keys()
    for setting in UNSET:
        section, name = setting.split(".")
        assert getattr(getattr(Settings(), section), name) is None
        block = re.split(r"(?m)^\[", EXAMPLE.read_text(encoding="utf-8"))
        assert re.search(rf"(?m)^# {name} = ", next(part for part in block if part.startswith(f"{section}]")))


def test_commented_settings_of_the_example_are_valid(tmp_path: Path) -> None:
    without_marks = re.sub(r"(?m)^# (\w+ = )", r"\1", EXAMPLE.read_text(encoding="utf-8"))
    assert load(write_config(tmp_path, without_marks)).conduct.toxicity_model == Path("models/base/unitary--toxic-bert")


def test_every_setting_of_the_example_has_a_comment() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
    for before, line in pairwise(lines):
        if re.match(r"(# )?\w+ = ", line):
            assert before.startswith("# "), line


def test_models_are_looked_up_in_the_working_folder_and_then_in_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOT_CONDUCT__REPLY_CLASSIFIER", raising=False)
    (tmp_path / "models" / "upvote").mkdir(parents=True)
    settings = load(write_config(tmp_path, '[rank]\nrealism = "models/mine"\nrelevance = ""\n'))
    assert settings.conduct.reply_classifier == ROOT / "models" / "conduct-reply"
    assert settings.generate.model == ROOT / "models" / "lm"
    assert settings.rank.upvote == Path("models/upvote")  # in the working folder
    assert settings.rank.realism == Path("models/mine")  # in neither
    assert settings.rank.relevance is None


# --- file and environment -----------------------------------------------------------------------------------------------------


def test_the_file_overrides_defaults_and_the_environment_overrides_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path, '[generate]\ntemperature = 0.6\nnum_candidates = 3\n[fetch]\nsubreddits = ["books"]\n')
    settings = load(path)
    assert (settings.generate.temperature, settings.generate.num_candidates, settings.generate.top_p) == (0.6, 3, 0.9)
    monkeypatch.setenv("BOT_GENERATE__TEMPERATURE", "0.7")
    monkeypatch.setenv("BOT_FETCH__SUBREDDITS", '["movies", "music"]')
    settings = load(path)
    assert (settings.generate.temperature, settings.generate.num_candidates, settings.generate.top_p) == (0.7, 3, 0.9)
    assert settings.fetch.subreddits == ["movies", "music"]
    assert load(None).generate.temperature == 0.7 and load(None).generate.num_candidates == 10


def test_a_section_in_capitals(tmp_path: Path) -> None:
    """Taken for the section, it would replace the other one of the file."""
    with pytest.raises(config.WrongSettings, match=r"Fetch: no such setting \(did you mean fetch\?\)"):
        load(write_config(tmp_path, "[Fetch]\ndepth = 3\n[fetch]\nsubreddits = ['books']\n"))


def test_an_empty_model_folder_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty path would mean the current folder."""
    assert load(write_config(tmp_path, '[rank]\nrealism = ""\n')).rank.realism is None
    monkeypatch.setenv("BOT_RANK__REALISM", "")
    assert load(None).rank.realism is None and load(None).rank.backend == ""
    for empty in ("", " "):
        assert "generate.model: empty" in refusal(write_config(tmp_path, f'[generate]\nmodel = "{empty}"\n'))
    assert load(write_config(tmp_path, '[generate]\nmodel = "."\n')).generate.model == Path()


def test_a_permission_names_who_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '[[submit.allowed]]\nsubreddit = "books"\n'
    allowed = load(write_config(tmp_path, f'{entry}permitted_by = "u/mod, 2026-11-01"\n')).submit.allowed
    assert [(each.subreddit, each.permitted_by) for each in allowed] == [("books", "u/mod, 2026-11-01")]
    assert "submit.allowed.0.permitted_by" in refusal(write_config(tmp_path, entry))
    assert "submit.allowed.0.subreddit" in refusal(
        write_config(tmp_path, '[[submit.allowed]]\nsubreddit = "two words"\npermitted_by = "u/mod"\n')
    )
    monkeypatch.setenv("BOT_SUBMIT__ALLOWED", '["books"]')
    assert "submit.allowed.0" in refusal(None)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Bot.Example.org:443/", "https://bot.example.org/"),
        ("http://bot.example.org:80", "http://bot.example.org"),
        ("https://bot.example.org:80", "https://bot.example.org:80"),
        ("https://bot.example.org:4430", "https://bot.example.org:4430"),
    ],
)
def test_the_address_of_the_web_app_is_written_as_browsers_write_it(url: str, expected: str) -> None:
    assert config.WebSettings(url=url).url == expected


@pytest.mark.parametrize("hours", ["inf", "nan", "1e300", "0", "-1"])
def test_the_time_for_approval_has_an_end(tmp_path: Path, hours: str) -> None:
    path = write_config(tmp_path, f"[submit]\napproval_timeout_hours = {hours}\n")
    assert "submit.approval_timeout_hours" in refusal(path)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().generate.temperature = 1.0
    with pytest.raises(ValidationError):
        Settings().choose = config.ChooseSettings(minimum_realism=0)


# --- errors -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "setting"),
    [
        ("[generate]\ntemperature = 0\n", "generate.temperature"),
        ("[generate]\ntemperature = nan\n", "generate.temperature"),
        ('[generate]\nnum_candidates = "ten"\n', "generate.num_candidates"),
        ("[generate]\nnum_candidates = 2.5\n", "generate.num_candidates"),
        ("[generate]\nmin_new_tokens = 61\n", "generate"),
        ("[generate]\ntop_p = 1.01\n", "generate.top_p"),
        ("[generate]\ntemprature = 0.7\n", "generate.temprature"),
        ("[generat]\ntemperature = 0.7\n", "generat"),
        ('[fetch]\nlisting = "best"\n', "fetch.listing"),
        ("[fetch]\nsubreddits = [3]\n", "fetch.subreddits.0"),
        ("[fetch]\nsubmissions = 101\n", "fetch.submissions"),
        ("[choose]\nminimum_realism = 1.5\n", "choose.minimum_realism"),
        ("fetch = 5\n", "fetch"),
        ("[rank.weights]\nintercept = nan\n", "rank.weights.intercept"),
        ("[choose]\nminimum_rank = -inf\n", "choose.minimum_rank"),
        ('_env_prefix = "FOO_"\n', "_env_prefix"),  # an argument of pydantic
        ('subreddits = ["books"]\n', "subreddits"),
    ],
)
def test_an_invalid_value_is_reported_with_file_line_and_setting(tmp_path: Path, content: str, setting: str) -> None:
    path = write_config(tmp_path, content)
    message = refusal(path)
    line = 2 if "." in setting else 1
    assert message.startswith(f"{path}: line {line} setting {setting}: ") and "config.example.toml" in message
    assert "found" not in message


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("BOT_GENERATE__TEMPERATURE", "hot", "generate.temperature"),
        ("BOT_GENERATE__TEMPRATURE", "0.7", "generate.temprature"),
        ("BOT_RANK__WEIGHTS__CHOICE", "-7", "rank.weights.choice"),
        ("BOT_FETCH", '{"depth": 99}', "fetch.depth"),
    ],
)
def test_an_invalid_variable_is_reported_even_if_there_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, setting: str
) -> None:
    monkeypatch.setenv(variable, value)
    for path in (None, write_config(tmp_path, "[generate]\ntop_p = 0.5\n")):
        message = refusal(path)
        assert message.startswith(f"{variable}: setting {setting}: ") and value not in message


@pytest.mark.parametrize("variable", ["BOT_CHOSE__MINIMUM_REALISM", "bot_rank_upvote", "BOT_"])
def test_a_variable_with_an_unknown_section_is_reported_with_the_known_sections(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv("BOT_BASES", "/srv/bases")  # not a setting, but allowed
    monkeypatch.setenv("BOT_RESTARTED", "1")  # set where run_bot.py restarts itself in .venv
    load(None)
    monkeypatch.setenv(variable, "0.5")
    message = refusal(None)
    assert message.startswith(f"{variable}: ") and "fetch, generate, rank, choose" in message and "\n" not in message


@pytest.mark.parametrize("variable", ["BOT_FETCH__SUBREDDITS", "BOT_FETCH"])
def test_a_variable_that_is_not_json(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "books")
    message = refusal(None)
    assert message.startswith(f"{variable}: not readable as JSON; ") and "BOT_FETCH__SUBREDDITS='[" in message


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "no such config file" in refusal(tmp_path / "none.toml")
    assert "not readable as TOML" in refusal(tmp_path)
    assert "nested too deeply" in refusal(write_config(tmp_path, f"x = {'[' * 5000}"))
    path = write_config(tmp_path, "[generate\n")
    assert refusal(path).startswith(f"{path}: not readable as TOML")
    path.write_bytes(b"x = '\xff'\n")
    assert refusal(path).startswith(f"{path}: not readable as TOML")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('[reddit]\npassword = "hunter2"\n', "reddit.password"),
        ('[reddit]\nclient_secret = "hunter2"\n', "reddit.client_secret"),
        ('praw_client_id = "hunter2"\n', "praw_client_id"),
        ('[DEFAULT]\nrefresh_token = "hunter2"\n', "DEFAULT.refresh_token"),
        ('[[submit.allowed]]\nsubreddit = "books"\nApiKey = "hunter2"\n', "submit.allowed.0.ApiKey"),
        ('[reddit]\nurl = "http://me:hunter2@127.0.0.1:80"\n', "reddit.url"),
    ],
)
def test_a_credential_in_the_file_is_rejected_and_not_printed(tmp_path: Path, content: str, name: str) -> None:
    message = refusal(write_config(tmp_path, content))
    assert f" {name} " in message and "credential" in message and "hunter2" not in message


def test_a_credential_in_a_setting_variable_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOT_REDDIT__PASSWORD", "hunter2")
    message = refusal(None)
    assert "BOT_REDDIT__PASSWORD" in message and "praw_password" in message and "hunter2" not in message
