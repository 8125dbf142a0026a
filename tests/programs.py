"""Programs of the operating system that some tests need: Chromium, redis-server and nginx."""

from __future__ import annotations

import os
import shutil

import pytest


def needed(package: str, *names: str) -> str:
    """The path of the first of these programs that is installed. Without one the test is skipped, or fails where CI is set (`.ci/run`)."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    reason = f"{names[0]} is not installed (Debian and Ubuntu: apt install {package})"
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
