"""Servers: a model folder with server.toml stands for a model that another program serves over the OpenAI interface.

    url = "http://127.0.0.1:8000/v1"          address of the interface, without /completions or /chat/completions
    model = "Qwen/Qwen3-4B-Instruct-2507"     the name by which the server knows the model
    prompt = "chat"                           "chat" for instruct models, "training-text" for models fine-tuned on the training text
    examples = "data/prepared/lm_train.csv"   chat: prepared pairs, from which examples are drawn; without it there are none
    number_of_examples = 4                    chat: 1 to 32
    start = "<|im_start|>"                    training-text: the model's start token as text, if the tokenizer does not add it
    timeout_seconds = 120                     of one request, including the time in the server's queue

The key, if the server needs one, is the environment variable OPENAI_API_KEY. Workers import this module, so it imports no heavy package.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from bot import cli, config, files
from bot.cli import UserError, WrongSettings

FILE = "server.toml"


class Server(config.Section):
    url: Annotated[str, Field(pattern=r"^https?://[^\s/?#@]+(/[^\s?#@]*)?$"), AfterValidator(lambda url: url.rstrip("/"))]
    model: str = Field(min_length=1)
    prompt: Literal["chat", "training-text"]
    examples: Path | None = None
    number_of_examples: int = Field(default=4, ge=1, le=32)
    start: str = ""
    timeout_seconds: float = Field(default=120.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _fits_prompt(self) -> Self:
        if self.prompt == "chat" and self.start:
            raise ValueError('start: only for prompt = "training-text"; a chat template adds its own')
        if self.prompt != "chat" and self.examples:
            raise ValueError('examples: only for prompt = "chat"')
        return self


def read(folder: Path) -> Server:
    """The content of server.toml in a model folder.

    Raises:
        UserError: there is none, or it is not valid or contains a credential. The message does not repeat values.
    """
    path, shown = folder / FILE, files.display_path(folder / FILE)
    try:
        source = path.read_text(encoding="utf-8")
        content = tomllib.loads(source)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{files.display_path(folder)}: no {FILE} here; write one with url, model and prompt, see docs/generators.md"
        ) from None
    except (OSError, ValueError) as error:
        raise WrongSettings(f"{shown}: not readable as TOML ({cli.first_line(error)}); see docs/generators.md") from None
    if places := config.credentials(content):
        raise WrongSettings(
            f"{shown}:{config.line_of(source, places[0])}: {places[0][0]} is or contains a credential; remove it and set {cli.SERVER_KEY}"
            " in the environment"
        )
    try:
        return Server(**content)
    except ValidationError as error:
        first = error.errors(include_input=False, include_context=False)[0]
        setting = f" {'.'.join(map(str, first['loc']))}" if first["loc"] else ""
        line = config.line_of(source, first["loc"])
        raise WrongSettings(f"{shown}:{line}{setting}: {first['msg']}; see docs/generators.md") from None


def identity(path: Path) -> str:
    """The sha256 over what the text of a server's candidates depends on: neither its address nor its time limit. path: of server.toml.

    If the file is not valid, the sha256 of the file.
    """
    try:
        server = read(path.parent)
    except UserError:
        return files.sha256_of(path)
    parts = server.model_dump(mode="json", exclude={"url", "timeout_seconds", "examples"})
    if server.examples:
        with suppress(OSError, files.FileError):  # the generator reports it
            parts["examples"] = files.sha256_of(server.examples)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
