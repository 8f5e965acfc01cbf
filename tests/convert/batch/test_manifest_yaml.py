"""YAML with lines: what is read, what is refused, and that nothing else ever happens."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.batch.manifest_yaml import MAX_MANIFEST, Document, read_yaml, spelled
from interlingua.errors import FormatError, InterlinguaError, UsageError, suggestion


def read(folder: Path, text: str | bytes) -> Document:
    path = folder / "zoo.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_yaml(path)


def test_every_value_has_its_line(tmp_path: Path) -> None:
    found = read(
        tmp_path, "version: 1\njobs:\n  - source: a\n    to:\n      - hf\n      - uer\n  - {source: b,\n     to: hf}\n"
    )
    assert found.value == {"version": 1, "jobs": [{"source": "a", "to": ["hf", "uer"]}, {"source": "b", "to": "hf"}]}
    assert found.lines[("jobs", 0)] == 3
    assert found.lines[("jobs", 0, "to")] == 4
    assert found.lines[("jobs", 0, "to", 1)] == 6
    assert found.lines[("jobs", 1, "to")] == 8
    assert found.line_of(("jobs", 1, "dtype", "x")) == 7


def test_scalars_are_texts_but_for_numbers_booleans_and_null(tmp_path: Path) -> None:
    found = read(tmp_path, "a: 2024-01-02\nb: 0x10\nc: yes\nd: ~\ne: 'true'\n12: =\n1.50: !!str 7\n")
    assert found.value == {"a": "2024-01-02", "b": 16, "c": True, "d": None, "e": "true", "12": "=", "1.50": "7"}


def test_anchors_and_merges_are_followed(tmp_path: Path) -> None:
    found = read(tmp_path, "a: &a {x: 1, y: 2}\nb: &b {<<: *a, y: 3}\nc:\n  <<: [*b, {x: 9, z: 4}]\n  w: *a\n")
    assert found.value["b"] == {"x": 1, "y": 3}
    assert found.value["c"] == {"w": {"x": 1, "y": 2}, "x": 1, "y": 3, "z": 4}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\n  c: 3\n", ":3: is no YAML: mapping values are not allowed here"),
        ("a: [1\n", "is no YAML"),
        ("a: *b\n", ":1: is no YAML: found undefined alias"),
        (b"a: \xff\n", "is no UTF-8 text"),
        ("a: \x01\n", "is no YAML"),
        ("[" * 9000, "is nested too deeply"),
        ("#" * (MAX_MANIFEST + 1), "is too long for a manifest"),
        ("---\na: 1\n---\nb: 1\n", "is no YAML: but found another document"),
    ],
)
def test_what_is_no_yaml_is_a_format_error(tmp_path: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'zoo.yaml'}")
    assert words in str(caught.value)


def test_a_missing_file_is_a_format_error(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="nowhere"):
        read_yaml(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {b: 1,\n c: 2,\n b: 3}\n", ":3: a.b: is there twice, on line 1 too"),
        ("1: 1\n'1': 2\n", ":2: 1: is there twice"),
        ("- 1\n", ":1: a manifest is a mapping"),
        ("", ":1: a manifest is a mapping"),
        ("a:\n  b: !!python/object/apply:os.getcwd []\n", ":2: a.b: has the tag"),
        ("a: !x 1\n", ":1: a: has the tag"),
        ("a: !!binary aGk=\n", ":1: a: has the tag"),
        ("a: !!set {x}\n", ":1: a: has the tag"),
        ("a: !!int x\n", ":1: a: is no value"),
        ("a: !!bool x\n", ":1: a: is no value"),
        (f"a: {'9' * 5000}\n", ":1: a: is no value"),
        (f"a: 0x{'f' * 5000}\n", ":1: a: is too large a number"),
        ("[1]: 2\n", ":1: has a key that is no text"),
        ('a: "\\0"\n', ":1: a: holds what is no text"),
        ('"\\ud800": 1\n', ":1: holds what is no text"),
        ("a: &a [*a]\n", "holds too much"),
        ("a: &a {<<: *a}\n", "`<<`"),
        ("a: {<<: 1}\n", "`<<`"),
    ],
)
def test_what_no_manifest_holds_is_named_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)


def test_a_bomb_of_aliases_does_not_go_off(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{number}: &a{number} [{', '.join([f'*a{number - 1}'] * 10)}]" for number in range(1, 12)]
    with pytest.raises(UsageError, match="holds too much"):
        read(tmp_path, "\n".join(lines))
    merges = ["a0: &a0 {x: 1}"]
    merges += [f"a{number}: &a{number} {{<<: [{', '.join([f'*a{number - 1}'] * 10)}]}}" for number in range(1, 12)]
    with pytest.raises(UsageError, match="`<<`"):
        read(tmp_path, "\n".join(merges))


@given(st.text(alphabet="ab:-[]{}&*<!'\"#|>\n \t,?%@~01", max_size=60) | st.text(max_size=40))
def test_any_text_is_a_mapping_or_an_error(tmp_path: Path, text: str) -> None:
    try:
        found = read(tmp_path, text.encode("utf-8", "surrogatepass"))
    except InterlinguaError:
        return
    assert isinstance(found.value, dict)
    assert all(found.lines[(key,)] >= 1 for key in found.value)


def test_places_and_suggestions_read_well() -> None:
    assert spelled(("jobs", 3, "to", 0)) == "jobs[3].to[0]"
    assert suggestion("Padle", ["hf", "paddle"]) == "Did you mean 'paddle'?"
    assert suggestion("x", ["hf", "paddle"]) == "There are: hf, paddle."
    assert suggestion("x", []) == "There is none."
