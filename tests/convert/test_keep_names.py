"""``--keep-names`` and what a container cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

import interlingua
from interlingua.errors import MappingError

STRINGS = "google-deepmind__sonnet"


def test_strings_are_left_out_and_named_or_refused(fixtures_dir: Path, tmp_path: Path) -> None:
    source = next((fixtures_dir / STRINGS).rglob("*.index")).with_suffix("")
    options = {"keep_names": True, "container": "safetensors", "sync": False}
    plan = interlingua.convert(source, tmp_path / "kept", **options).plan
    assert [kept.reason for kept in plan.residue] == ["strings, which safetensors does not hold"]
    with pytest.raises(MappingError, match="cannot hold strings"):
        interlingua.convert(source, tmp_path / "refused", residue="error", **options)
    assert not (tmp_path / "refused").exists()
