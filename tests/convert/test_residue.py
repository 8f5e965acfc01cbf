"""The residue file: its layout, and what a file that was tampered with cannot do."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.residue import FILE_NAME, KINDS, Entry, key_of, metadata_of, open_residue
from interlingua.errors import FormatError
from tests.models import safetensors_bytes

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
ENTRY = Entry("hf/tensor/a", "tensor", "hf", "a", "because")


def write(folder: Path, entries: object, arrays=None, **metadata: str) -> Path:
    text = json.dumps(entries) if not isinstance(entries, str) else entries
    listed = {"format": "interlingua-residue", "version": "1", "entries": text, **metadata}
    arrays = {"hf/tensor/a": np.zeros(2, np.float32)} if arrays is None else arrays
    (folder / FILE_NAME).write_bytes(safetensors_bytes(arrays, listed))
    return folder / FILE_NAME


def an_entry(**changes: object) -> dict[str, object]:
    return {**asdict(ENTRY), **changes}


def test_the_layout_is_the_one_that_is_documented() -> None:
    assert metadata_of([ENTRY]) == {
        "format": "interlingua-residue",
        "version": "1",
        "entries": '[{"key":"hf/tensor/a","kind":"tensor","dialect":"hf","name":"a","reason":"because"}]',
    }
    assert key_of("rows", "uer", "embedding.seg.embedding.weight") == "uer/rows/embedding.seg.embedding.weight"
    assert KINDS == ("tensor", "rows", "strings", "file", "config", "folded", "name", "foreign")
    assert FILE_NAME == "interlingua.residue.safetensors"


@given(st.lists(st.tuples(st.sampled_from(["tensor", "rows", "foreign"]), TEXT, TEXT, TEXT), unique_by=lambda e: e[:3]))
def test_entries_come_back_as_they_were(tmp_path_factory, listed) -> None:
    entries = [Entry(key_of(kind, d, n), kind, d, n, reason) for kind, d, n, reason in listed]
    if len({entry.key for entry in entries}) < len(entries):
        return
    folder = tmp_path_factory.mktemp("residue")
    arrays = {entry.key: np.full(3, number) for number, entry in enumerate(entries)}
    (folder / FILE_NAME).write_bytes(safetensors_bytes(arrays, metadata_of(entries)))
    found = open_residue(folder / FILE_NAME)
    with found.reader:
        assert found.entries == tuple(entries)
        for entry in entries:
            assert found.of(entry.dialect, entry.kind)[entry.name] in entries
            assert found.reader.read(entry.key).tolist() == arrays[entry.key].tolist()
        assert found.of("nobody", "tensor") == {}


@pytest.mark.parametrize(
    "entries",
    [
        "",
        "{",
        "7",
        "null",
        '"a"',
        "{}",
        [7],
        ["a"],
        [None],
        [[]],
        [{}],
        [an_entry(more="x")],
        [{key: value for key, value in asdict(ENTRY).items() if key != "reason"}],
        [an_entry(reason=None)],
        [an_entry(name=["a"])],
        [an_entry(dialect={})],
        [an_entry(kind="code")],
        [an_entry(kind=["tensor"])],
        [an_entry(key="other")],
        [an_entry(), an_entry()],
        [],
        "[" * 50_000,
        '[{"key": "\\ud800"}]',
    ],
    ids=lambda entries: str(entries)[:50],
)
def test_entries_that_are_none_are_refused(tmp_path: Path, entries: object) -> None:
    path = write(tmp_path, entries)
    with pytest.raises(FormatError) as caught:
        open_residue(path)
    assert caught.value.path == path


@pytest.mark.parametrize("metadata", [{"format": "pt"}, {"version": "2"}, {"version": "1.0"}])
def test_another_kind_or_version_is_refused_with_what_to_do(tmp_path: Path, metadata: dict[str, str]) -> None:
    with pytest.raises(FormatError, match="no residue of version 1") as caught:
        open_residue(write(tmp_path, [an_entry()], **metadata))
    assert "Move it away" in str(caught.value)


@pytest.mark.parametrize("kind", ["file", "config"])
@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../evil", "a/../../evil", "..", ".", "", "a//b", "a/./b", "a/", "/", "nul\0", "../../../../tmp/x"],
)
def test_a_file_that_leads_out_of_its_folder_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(FormatError, match="leads out of its folder"):
        open_residue(write(tmp_path, [an_entry(kind=kind, name=name)]))


@pytest.mark.parametrize("name", ["tokenizer.json", "1_Pooling/config.json", "a..b", "..a", "ä b"])
def test_a_file_in_its_folder_is_fine(tmp_path: Path, name: str) -> None:
    with open_residue(write(tmp_path, [an_entry(kind="file", name=name)])).reader:
        pass


def test_the_name_of_a_tensor_may_be_anything(tmp_path: Path) -> None:
    with open_residue(write(tmp_path, [an_entry(name="../a/../b")])).reader:
        pass


def test_a_kept_json_is_read_with_distrust(tmp_path: Path) -> None:
    def kept(content: bytes):
        array = np.frombuffer(content, np.uint8)
        found = open_residue(write(tmp_path, [an_entry(kind="config", name="c")], {"hf/tensor/a": array}))
        with found.reader:
            return found.json(found.entries[0])

    assert kept('{"a": "é"}'.encode()) == {"a": "é"}
    for content in (b"", b"[]", b"{", b"\xff\xfe{}", b"[" * 50_000):
        with pytest.raises(FormatError):
            kept(content)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not at all")
    with pytest.raises(FormatError):
        open_residue(tmp_path / FILE_NAME)
