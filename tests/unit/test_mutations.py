"""What counts as noticed (tests.mutations)."""

from __future__ import annotations

import pytest

from tests.mutations import Mutation, is_noticed


def test_a_test_that_could_not_be_set_up_noticed_nothing() -> None:
    fixture = "def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:\n"
    without_it = Mutation(
        "", "tests/conftest.py", fixture, f"{fixture}    raise OSError('no server')\n", "tests/unit/test_zone.py"
    )
    with pytest.raises(ValueError, match="could not be run"):
        is_noticed(without_it)
