"""Write the address of the repository into all notebooks: into the Colab badge and REPOSITORY.

Reads `repository` in pyproject.toml, the only place where you change the address. Writes the notebooks that have another one.

    python notebooks/address.py
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
GITHUB = "https://github.com/"


def with_address(notebook: str, address: str) -> str:
    """The JSON text of a notebook with this address.

    >>> with_address('REPOSITORY = \\\\"https://github.com/a/b\\\\"', "https://github.com/you/bot")
    'REPOSITORY = \\\\"https://github.com/you/bot\\\\"'

    Raises ValueError if the address is not one of GitHub, from which Colab opens notebooks.
    """
    match = re.fullmatch(re.escape(GITHUB) + r"([\w-]+/[\w.-]+?)(?:\.git)?/?", address)
    if not match:
        raise ValueError(f"repository = {address!r}: expected {GITHUB}OWNER/NAME")
    changed = re.sub(r"(?<=colab\.research\.google\.com/github/)[\w-]+/[\w.-]+(?=/blob/)", match[1], notebook)
    return re.sub(rf'(?<=REPOSITORY = \\"){re.escape(GITHUB)}[^"\\]+', GITHUB + match[1], changed)


def main() -> None:
    try:
        address = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["repository"]
        with_address("", str(address))
    except KeyError:
        sys.exit("pyproject.toml: no repository in [project.urls]; add it")
    except (OSError, ValueError) as error:
        sys.exit(f"pyproject.toml: {error}".splitlines()[0])
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        content = path.read_text(encoding="utf-8")
        if (changed := with_address(content, address)) != content:
            path.write_text(changed, encoding="utf-8")
            print(f"notebooks/{path.name}: {address}")


if __name__ == "__main__":
    main()
