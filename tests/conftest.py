"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from interlingua.formats import preallocation

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.load_profile("default")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of real checkpoints written by others; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("INTERLINGUA_FIXTURES", ROOT.parent / "shared" / "fixtures"))
    if not folder.is_dir():
        pytest.skip(f"the folder of real checkpoints is not here: {folder}")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, which `make demo` and `make test` fetch; skipped by name where it is absent."""
    folder = Path(os.environ.get("INTERLINGUA_MINILM", ROOT / ".demo" / "all-MiniLM-L6-v2"))
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"all-MiniLM-L6-v2 is not here: {folder} (python -m benchmarks.minilm fetches it)")
    return folder


@pytest.fixture
def holes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what is not written of an output as a hole, so that one of gigabytes takes no room."""
    monkeypatch.setattr(preallocation, "_fallocate", lambda *_: False)
