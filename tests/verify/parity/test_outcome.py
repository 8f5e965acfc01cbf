"""The JSON form of an outcome: what is written can be read again, and nothing else is read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats.json_text import decode_json
from interlingua.verify.parity.outcome import (
    BY_CONVENTION,
    DIFFERENT,
    FEW,
    SAME,
    Gap,
    Outcome,
    Thresholds,
    WeightsGate,
    outcome_from_dict,
)
from tests.verify.parity.outcomes import ALL, ANY, different, healthy, non_finite

SCHEMA = Path(__file__).resolve().parents[3] / "docs/schemas/parity-1.json"


def through_json(outcome: Outcome) -> Any:
    """Return what a JSON file of an outcome holds."""
    return decode_json(json.dumps(outcome.as_dict(), allow_nan=False).encode())


def validator() -> Any:
    """Return a validator of the published schema."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a JSON text."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """Return a JSON value with another one at a path."""
    if not path:
        return new
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: put(value[key], tuple(rest), new)}
    return [put(item, tuple(rest), new) if index == key else item for index, item in enumerate(value)]


def is_read(value: Any) -> bool:
    """Return whether a JSON value is taken for an outcome."""
    try:
        outcome_from_dict(value)
    except FormatError:
        return False
    return True


@given(ANY)
@settings(max_examples=50)
def test_an_outcome_comes_back_from_json_as_it_was(outcome: Outcome) -> None:
    assert repr(outcome_from_dict(through_json(outcome))) == repr(outcome)


@pytest.mark.parametrize("kind", ALL)
def test_a_usual_outcome_comes_back_and_is_what_the_published_schema_says(kind: str) -> None:
    outcome = ALL[kind]()
    assert repr(outcome_from_dict(through_json(outcome))) == repr(outcome)
    validator().validate(through_json(outcome))


@given(ANY)
@settings(max_examples=25)
def test_every_outcome_is_what_the_published_schema_says(outcome: Outcome) -> None:
    validator().validate(through_json(outcome))


@given(ANY, st.data())
@settings(max_examples=60)
def test_reader_and_schema_refuse_the_same(outcome: Outcome, data: st.DataObject) -> None:
    good = through_json(outcome)
    place = data.draw(st.sampled_from(places(good)))
    wrong = put(good, place, data.draw(st.sampled_from([None, True, "x", "nan", 3, 2.5, [], {}, ["x"], {"x": 1}])))
    assert is_read(wrong) == validator().is_valid(wrong)


@given(ANY, st.data())
@settings(max_examples=20)
def test_a_missing_key_is_refused_by_name(outcome: Outcome, data: st.DataObject) -> None:
    good = through_json(outcome)
    key = data.draw(st.sampled_from(sorted(good)))
    with pytest.raises(FormatError, match=f"^{key}: missing"):
        outcome_from_dict({name: value for name, value in good.items() if name != key})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), 2, "schema: it is 2, and 1 is read here"),
        (("schema",), True, "schema: it is True"),
        (("schema",), [[]], "schema: it is something else"),
        (("verdict",), "fine", "verdict: 'fine' is none of"),
        (("a", "gaps", 3, "rms"), "small", r"a.gaps\[3\].rms: a number is expected, and it is 'small'"),
        (("a", "gaps", 0, "elements"), 1.5, r"a.gaps\[0\].elements: an integer is expected, and it is 1.5"),
        (("a", "gaps", 0, "by_position", 1, 2), None, r"a.gaps\[0\].by_position\[1\]\[2\]: a number"),
        (("a", "settings", "tf32"), False, "a.settings.tf32: a string"),
        (("b", "third_party"), 1, "b.third_party: true or false"),
        (("b", "third_party"), 10**400, "b.third_party: true or false is expected, and it is of type int"),
        (("seconds",), 10**400, "seconds: a finite number"),
        (("seconds",), float("nan"), "seconds: a finite number"),
        (("batches", "hard"), [4], "batches.hard: 1 entries, and there should be 2"),
        (("weights", "differences"), {}, "weights.differences: a list"),
        (("tokens",), [], "tokens: an object is expected, and it is of type list"),
    ],
)
def test_what_is_malformed_is_refused_and_the_error_names_the_key(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        outcome_from_dict(put(through_json(healthy()), path, value))


def test_a_key_that_is_not_known_is_refused_and_cannot_move_a_cursor() -> None:
    good = through_json(healthy())
    with pytest.raises(FormatError, match=r"a\.\\x1b\[31m: no key of this schema"):
        outcome_from_dict({**good, "a": {**good["a"], "\x1b[31m": 1}})


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_what_is_no_outcome_at_all_is_refused(value: Any) -> None:
    with pytest.raises(FormatError, match="schema: missing"):
        outcome_from_dict(value)


def test_numbers_that_json_has_no_word_for_are_spelled_and_read() -> None:
    (found, *_) = [gap for gap in through_json(non_finite())["b"]["gaps"] if gap["non_finite"]]
    assert (found["rms"], found["max_abs"]) == ("nan", "inf")
    assert found["by_position"][0][0] == "nan"
    (gap, *_) = [gap for gap in outcome_from_dict(through_json(non_finite())).b.gaps if gap.non_finite]
    assert gap.max_abs == float("inf")
    assert gap.rms != gap.rms


def test_a_stored_outcome_can_be_judged_again_under_other_thresholds() -> None:
    stored = outcome_from_dict(through_json(different()))
    strict, lax = stored.thresholds, type(stored.thresholds)(1e9, 1e9)
    assert not all(map(strict.allows, stored.agreement))
    assert all(map(lax.allows, stored.agreement))


# -- what passes


def sized(rms: float, peak: float, **more: Any) -> Gap:
    """Return a gap of one unit of noise, its greatest element of four."""
    found = replace(healthy().agreement[0], rms=rms, max_abs=peak, noise_rms=1.0, noise_max=4.0, scale=10.0)
    return replace(found, **{"vectors": FEW, **more})


@pytest.mark.parametrize(
    ("thresholds", "rms", "peak"),
    [
        (Thresholds(), 3.0, 24.0),
        (Thresholds(2.0, 5.0), 2.0, 20.0),
        (Thresholds(atol=0.5), 3.5, 24.5),
        (Thresholds(rtol=0.25), 5.5, 26.5),
        (Thresholds(atol=0.5, rtol=0.25), 6.0, 27.0),
        (Thresholds(0.0, 0.0), 0.0, 0.0),
    ],
)
def test_both_sizes_of_an_error_have_a_limit_of_their_own(thresholds: Thresholds, rms: float, peak: float) -> None:
    assert thresholds.allows(sized(rms, peak))
    assert not thresholds.allows(sized(rms + 1e-6, peak))
    assert not thresholds.allows(sized(rms, peak + 1e-6))
    assert (thresholds.rms_limit(sized(1.0, 1.0)), thresholds.peak_limit(sized(1.0, 1.0))) == (rms, peak)


def test_twice_as_much_passes_of_few_vectors_and_no_more() -> None:
    few = {"vectors": FEW - 1}
    assert Thresholds().allows(sized(6.0, 48.0, **few))
    assert not Thresholds().allows(sized(6.1, 48.0, **few))
    assert not Thresholds().allows(sized(6.0, 48.1, **few))
    assert not Thresholds(atol=1.0).allows(sized(7.1, 48.0, **few))


@pytest.mark.parametrize("change", [{"elements": 0}, {"non_finite": 1}, {"rms": math.nan}, {"max_abs": math.nan}])
def test_nothing_compared_and_nan_pass_under_no_thresholds(change: dict[str, Any]) -> None:
    lax = Thresholds(1e9, 1e9, 1e9, 1e9)
    assert lax.allows(sized(0.0, 0.0))
    assert not lax.allows(replace(sized(0.0, 0.0), **change))


def test_where_nothing_may_differ_any_error_is_infinitely_many_units() -> None:
    quiet = {"noise_rms": 0.0, "noise_max": 0.0}
    assert replace(sized(0.0, 0.0), **quiet).units == 0.0
    assert replace(sized(1e-30, 1e-30), **quiet).units == math.inf
    assert Thresholds().allows(replace(sized(0.0, 0.0), **quiet))
    assert not Thresholds().allows(replace(sized(1e-30, 1e-30), **quiet))


@pytest.mark.parametrize(
    ("gate", "ok", "identical"),
    [
        (WeightsGate(0), False, False),
        (WeightsGate(3), True, True),
        (WeightsGate(3, narrowed="float16"), True, False),
        (WeightsGate(3, folded=2), True, False),
        (WeightsGate(3, differences=(("x", "values", ""),)), False, False),
    ],
)
def test_weights_are_the_same_where_some_were_compared_and_none_differs(
    gate: WeightsGate, ok: bool, identical: bool
) -> None:
    assert (gate.ok, gate.identical) == (ok, identical)


@pytest.mark.parametrize(
    ("verdict", "code", "strict"), [(SAME, 0, 0), (BY_CONVENTION, 0, 1), (DIFFERENT, 1, 1), ("", 1, 1)]
)
def test_the_exit_code_follows_from_the_verdict(verdict: str, code: int, strict: int) -> None:
    outcome = replace(healthy(), verdict=verdict)
    assert (outcome.exit_code(), outcome.exit_code(strict=True)) == (code, strict)


@pytest.mark.parametrize("version", [True, 0, 2, 1.5, "1", None, [1]])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(FormatError, match=r"schema: it is .*, and 1 is read here"):
        outcome_from_dict({**through_json(healthy()), "schema": version})
