"""tests/programs.py: a missing program skips a test, but never in CI."""

from __future__ import annotations

import pytest

from tests import programs


def test_a_missing_program_skips_the_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    assert programs.needed("dash", "no-such-program", "sh").endswith("/sh")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"no-such-program is not installed \(Debian and Ubuntu: apt install package\)"):
        programs.needed("package", "no-such-program")
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        programs.needed("package", "no-such-program")
