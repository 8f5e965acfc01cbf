"""``--version`` says what is installed, and imports none of it."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

import pytest
from click.testing import CliRunner

from interlingua import __version__
from interlingua.cli import main, versions


def test_versions_of_this_package_python_and_numpy() -> None:
    lines = CliRunner().invoke(main, ["--version"]).stdout.splitlines()
    assert lines[:2] == [f"interlingua {__version__}", f"Python {platform.python_version()}"]
    assert f"NumPy {importlib.metadata.version('numpy')}" in lines


def test_what_is_installed_is_named_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGES", {"Click": ("no-such-click", "click"), "Nothing": ("no-such-package",)})
    lines = CliRunner().invoke(main, ["--version"]).stdout.splitlines()
    assert lines[2:] == [f"Click {importlib.metadata.version('click')}"]


def test_no_framework_is_imported_to_say_its_version() -> None:
    before = set(sys.modules)
    assert CliRunner().invoke(main, ["--version"]).exit_code == 0
    assert not {"torch", "tensorflow", "paddle", "mindspore", "transformers"} & (set(sys.modules) - before)
