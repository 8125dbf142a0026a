#!/usr/bin/env python3
"""The command line. `python run_bot.py STAGE …` is the same as `python -m bot STAGE …`; see bot/__main__.py.

python run_bot.py run --sandbox                  the whole online pipeline, dry, against the local sandbox
python run_bot.py STAGE --help                   the options of one stage
python run_bot.py --install-completion           lets the shell complete the words after ./run_bot.py
"""

from bot.__main__ import main

if __name__ == "__main__":
    main("run_bot.py")
