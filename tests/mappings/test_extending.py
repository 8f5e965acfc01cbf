"""A dialect from outside: installed as a package, and used as any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from interlingua.mappings.dialect import check_table
from tests.models import hf, hf_config, read_safetensors, write_hf

EXAMPLE = Path(__file__).parents[2] / "docs" / "example-dialect"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, installed into a folder of its own as pip installs packages."""
    folder = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def run(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "interlingua", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_example_is_a_sound_table() -> None:
    namespace: dict[str, object] = {}
    exec(compile((EXAMPLE / "interlingua_acme.py").read_text(encoding="utf-8"), "example", "exec"), namespace)
    table = namespace["BERT_TABLE"]
    assert check_table(table) == []


def test_the_example_converts_both_ways(site: Path, tmp_path: Path) -> None:
    source = write_hf(tmp_path / "hf", hf(("pooler", "masked_lm")), hf_config(heads=("pooler", "masked_lm")), 37)
    there = run(site, "convert", source, tmp_path / "acme", "--to", "acme", "--json")
    assert there.returncode == 0, there.stderr
    assert {"acme.safetensors", "acme.json", "tokens.txt"} <= {file.name for file in (tmp_path / "acme").iterdir()}
    assert any("1e-05 in the target's" in note for note in json.loads(there.stdout)["notes"])
    back = run(site, "convert", tmp_path / "acme", tmp_path / "back", "--to", "hf")
    assert back.returncode == 0, back.stderr
    ours, theirs = (read_safetensors(folder / "model.safetensors") for folder in (source, tmp_path / "back"))
    assert {name: array.tobytes() for name, array in ours.items()} == {n: a.tobytes() for n, a in theirs.items()}
    assert (tmp_path / "back" / "config.json").read_bytes() == (source / "config.json").read_bytes()


def test_the_example_is_named_where_dialects_are(site: Path) -> None:
    assert "acme" in json.loads(run(site, "matrix", "--json").stdout)["dialects"]
    assert "'acme'" in run(site, "convert", EXAMPLE, "b", "--from", "acmee", "--to", "hf").stderr


@pytest.mark.parametrize("brought", ["interlingua_broken:NOTHING", "interlingua_broken:TAKEN"])
def test_an_entry_point_that_is_no_new_dialect_is_refused_by_name(tmp_path: Path, brought: str) -> None:
    (tmp_path / "interlingua_broken.py").write_text(
        "from interlingua.mappings.huggingface import HF as TAKEN\nNOTHING = 3\n", encoding="utf-8"
    )
    info = tmp_path / "interlingua_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: interlingua-broken\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[interlingua.dialects]\nbroken = {brought}\n", encoding="utf-8")
    done = run(tmp_path, "matrix")
    assert done.returncode == 2
    assert f"'broken' ({brought})" in done.stderr
    assert "Traceback" not in done.stderr
