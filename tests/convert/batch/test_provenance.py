"""What stands beside an output on its origin: the same bytes each time, and nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interlingua.convert.batch.digests import sums
from interlingua.convert.batch.jobs import Job
from interlingua.convert.batch.provenance import Origin, was_written_here, write_provenance
from interlingua.convert.conversion import Options
from interlingua.convert.source import Asked
from interlingua.errors import OutputError

ORIGIN = Origin("s" * 64, None, "1.2.3")


def job(target: Path) -> Job:
    asked = Asked(config=Path("/home/somebody/config.json"))
    return Job("m/uer", "/home/somebody/m", str(target), Options("uer", asked, overwrite=True, sync=False))


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_both_files_are_written_and_all_digests_returned(tmp_path: Path) -> None:
    fill(tmp_path, "w", "sub/c")
    found = write_provenance(job(tmp_path), ORIGIN, tmp_path, ["w", "sub/c"], single_file=False)
    assert list(found) == ["w", "sub/c", "interlingua-provenance.json", "SHA256SUMS"]
    listed = {name: digest for name, digest in found.items() if name != "SHA256SUMS"}
    assert (tmp_path / "SHA256SUMS").read_text() == sums(listed)
    told = json.loads((tmp_path / "interlingua-provenance.json").read_text())
    assert told["outputs"] == {name: found[name] for name in ("sub/c", "w")}
    assert told["source"] == {"name": "m", "sha256": "s" * 64, "fingerprint": None}
    assert told["tool"] == {"name": "interlingua", "version": "1.2.3"}
    assert told["options"]["source"]["config"] == "config.json"
    assert not {"overwrite", "sync"} & set(told["options"])


def test_the_order_of_files_and_the_place_change_no_byte(tmp_path: Path) -> None:
    for place, names in (("a", ["w", "c"]), ("b", ["c", "w"])):
        fill(tmp_path / place, *names)
        write_provenance(job(tmp_path / place), ORIGIN, tmp_path / place, names, single_file=False)
    for name in ("SHA256SUMS", "interlingua-provenance.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(("single", "target"), [(False, "out"), (True, "out/m.bin")])
def test_an_output_is_known_by_its_origin(tmp_path: Path, single: bool, target: str) -> None:
    fill(tmp_path / "out", "m.bin")
    assert not was_written_here(tmp_path / target)
    write_provenance(job(tmp_path / target), ORIGIN, tmp_path / "out", ["m.bin"], single_file=single)
    assert was_written_here(tmp_path / target)
    assert not was_written_here(tmp_path / "out" / "other.bin")


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    fill(tmp_path, "w", "interlingua-provenance.json")
    with pytest.raises(OutputError):
        write_provenance(job(tmp_path), ORIGIN, tmp_path, ["w"], single_file=False)
    assert (tmp_path / "interlingua-provenance.json").read_text() == "interlingua-provenance.json"
