"""For tests of the web app: a visitor, Flask's client that sends forms as a browser does, with the session's CSRF token; and a server."""

from __future__ import annotations

import re
import threading
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from bot.web import server


def serve(app: Flask, capsys: pytest.CaptureFixture[str]) -> str:
    """Serve the app in a thread. Returns its address, host and port."""
    threading.Thread(target=server.serve, args=(app, server.listen(0)), daemon=True).start()
    printed = ""
    while "\n" not in printed:
        time.sleep(0.01)
        printed += capsys.readouterr().out
    return urlsplit(printed.split(" ")[0]).netloc


class Visitor:
    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.csrf_token = ""
        self.fields: dict[str, str] = {}  # hidden fields and the radio buttons that are on, of the page that was loaded last

    def get(self, path: str, **options: Any) -> TestResponse:
        answer = self.client.get(path, **options)
        if match := re.search(r'name="csrf_token" value="([\w-]+)"', answer.text):
            self.csrf_token = match[1]
        self.fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
        self.fields |= re.findall(r'type="radio" name="(\w+)" value="([^"]*)" checked', answer.text)
        return answer

    def post(self, path: str, data: dict[str, str], **options: Any) -> TestResponse:
        return self.client.post(path, data={"csrf_token": self.csrf_token, **data}, **options)
