"""Dialects by name."""

from __future__ import annotations

import pytest

from interlingua.errors import UsageError
from interlingua.mappings.registry import DIALECTS, find


def test_every_dialect_is_found_by_its_name() -> None:
    for name, dialect in DIALECTS.items():
        assert find(name) is dialect
        assert dialect.name == name


@pytest.mark.parametrize(("typed", "meant"), [("ure", "uer"), ("UER", "uer"), ("hff", "hf"), ("HF", "hf")])
def test_a_typo_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"Did you mean '{meant}'"):
        find(typed)


def test_what_resembles_nothing_is_answered_with_all_there_are() -> None:
    with pytest.raises(UsageError) as caught:
        find("onnx-graph")
    assert "Did you mean" not in str(caught.value)
    assert ", ".join(DIALECTS) in str(caught.value)
