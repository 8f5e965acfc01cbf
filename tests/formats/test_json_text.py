"""JSON out of hostile files."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.formats import json_text
from interlingua.formats.json_text import decode_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
)


@given(VALUES, st.booleans())
def test_what_json_writes_is_read_as_it_was(value: object, ascii_only: bool) -> None:
    assert decode_json(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8")) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a": }',
        b"\xff\xfe",
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'["\\ud83d\\ud83d"]',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 900 + b"]" * 900 + b"x",
        b"9" * 5000,
        b"{} {}",
        b"\xef\xbb\xbf{}",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_what_is_no_json_raises_value_error(raw: bytes) -> None:
    with pytest.raises(ValueError):
        decode_json(raw)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert decode_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_a_text_too_long_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "MAX_JSON", 10)
    assert decode_json(b'"12345678"') == "12345678"
    with pytest.raises(ValueError, match="it has 11 bytes"):
        decode_json(b'"123456789"')


@pytest.mark.parametrize("raw", [b"[1,2,3]", b"[[[]]]", b'{"a":{"b":{}}}', b'{"a":1,"b":2,"c":3}'])
def test_too_many_values_are_refused_before_they_are_parsed(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = sum(map(raw.count, (b"{", b"[", b",")))
    monkeypatch.setattr(json_text, "MAX_PARTS", parts)
    assert decode_json(raw) == json.loads(raw)
    monkeypatch.setattr(json_text, "MAX_PARTS", parts - 1)
    with pytest.raises(ValueError, match="more than"):
        decode_json(raw)


def test_the_callers_own_objects_are_made() -> None:
    seen: list[list[str]] = []

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        seen.append([key for key, _ in found])
        return dict(found)

    assert decode_json(b'{"a": {"b": 1, "b": 2}}', pairs) == {"a": {"b": 2}}
    assert seen == [["b", "b"], ["a"]]
