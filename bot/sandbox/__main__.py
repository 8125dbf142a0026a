"""`python -m bot.sandbox` is the same as `python run_bot.py sandbox`."""

from __future__ import annotations

import sys

from bot.cli import run_command
from bot.sandbox.program import main

run_command(main, "python -m bot.sandbox", sys.argv[1:])
