"""Variables and matrices: what stands for what, and how many combinations there are."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlingua.convert.batch.expansion import MAX_JOBS, MAX_TEXT, combinations, declared, formatted, substituted
from interlingua.convert.batch.manifest_yaml import Document
from interlingua.errors import UsageError


def document(**variables: object) -> Document:
    return Document(Path("zoo.yaml"), {"variables": variables}, {("variables",): 2})


def test_a_variable_may_name_those_above_it() -> None:
    assert declared(document(a="x", b="${a}/y", c=True, d=3), {}) == {"a": "x", "b": "x/y", "c": "true", "d": "3"}
    with pytest.raises(UsageError, match=r"zoo\.yaml:2: variables\.a: there is no variable 'b'"):
        declared(document(a="${b}", b="x"), {})


def test_what_is_set_goes_first_and_is_taken_as_it_is() -> None:
    assert declared(document(a="x", b="${a}"), {"a": "${z}"}) == {"a": "${z}", "b": "${z}"}


def test_a_variable_that_is_set_must_be_declared() -> None:
    with pytest.raises(UsageError, match=r"--set rot: there is no such variable in zoo\.yaml\. Did you mean 'root'"):
        declared(document(root="x"), {"rot": "y"})
    with pytest.raises(UsageError, match="is no text"):
        declared(document(root="x"), {"root": "\0"})


def test_a_variable_without_a_value_must_be_set() -> None:
    assert declared(document(a=None), {"a": "x"}) == {"a": "x"}
    with pytest.raises(UsageError, match=r"variables\.a: has no value. Give it one: --set a="):
        declared(document(a=None), {})


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "secret")
    with pytest.raises(UsageError, match=r"The environment is not read: declare a variable, and pass --set"):
        substituted("${env:TOKEN}", {}, document(), ())
    with pytest.raises(UsageError, match="there is no variable 'TOKEN'"):
        substituted("${TOKEN}", {}, document(), ())


def test_texts_are_replaced_wherever_they_are_once() -> None:
    found = substituted({"${a}": ["${a}-${b}", 1, None]}, {"a": "${b}", "b": "y"}, document(), ())
    assert found == {"${a}": ["${b}-y", 1, None]}


def test_a_variable_that_is_not_closed_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"has a \$\{ without its \}"):
        substituted("x/${a", {"a": "x"}, document(), ())


def test_variables_do_not_grow_without_end() -> None:
    variables = {"v0": "x" * 10} | {f"v{number}": f"${{v{number - 1}}}" * 10 for number in range(1, 10)}
    with pytest.raises(UsageError, match=f"longer than {MAX_TEXT} characters"):
        declared(document(**variables), {})


def test_fields_of_names_are_replaced_once() -> None:
    assert formatted("{name}/{to}", {"name": "{to}", "to": "hf"}, document(), ()) == "{to}/hf"
    with pytest.raises(UsageError, match=r"\{nam\} stands for nothing. Did you mean 'name'"):
        formatted("{nam}", {"name": "x"}, document(), ())


def test_combinations_come_in_the_order_of_the_lists() -> None:
    found = combinations({"a": ["x", "y"], "b": ["1", "2"]}, [{"a": "x", "b": "2"}], document(), ())
    assert list(found) == [{"a": "x", "b": "1"}, {"a": "y", "b": "1"}, {"a": "y", "b": "2"}]


LISTS = st.lists(st.integers(0, 9).map(str), min_size=1, max_size=4, unique=True)


@given(st.data(), st.dictionaries(st.sampled_from("abcd"), LISTS, min_size=1))
def test_every_combination_is_there_once_but_for_those_excluded(data: st.DataObject, matrix: dict) -> None:
    entries = st.dictionaries(st.sampled_from(sorted(matrix)), st.none(), min_size=1)
    exclude = [
        {key: data.draw(st.sampled_from(matrix[key])) for key in entry}
        for entry in data.draw(st.lists(entries, max_size=2))
    ]
    total = prod(map(len, matrix.values()))
    sizes = [total // prod(len(matrix[key]) for key in entry) for entry in exclude]
    if len(exclude) == 2:
        one, other = exclude
        clash = any(one[key] != other[key] for key in one.keys() & other.keys())
        both = 0 if clash else total // prod(len(matrix[key]) for key in one.keys() | other.keys())
    else:
        both = 0
    expected = total - sum(sizes) + both
    if expected == 0:
        with pytest.raises(UsageError, match="leaves no combination"):
            list(combinations(matrix, exclude, document(), ()))
        return
    found = list(combinations(matrix, exclude, document(), ()))
    assert len(found) == len({tuple(each.items()) for each in found}) == expected
    assert all(each.keys() == matrix.keys() for each in found)


@pytest.mark.parametrize(
    ("matrix", "exclude", "words"),
    [
        ({"a": ["x", "x"]}, [], r"matrix\.a: lists a value twice"),
        ({"a": ["x"]}, [{"b": "x"}], r"exclude\[0\]\.b: is no key of the matrix"),
        ({"a": ["x"]}, [{"a": "y"}], r"exclude\[0\]: excludes no combination"),
        ({key: [str(n) for n in range(10)] for key in "abcdefgh"}, [], f"more than {MAX_JOBS} combinations"),
    ],
)
def test_a_matrix_that_cannot_be_meant_is_refused(matrix: dict, exclude: list, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        list(combinations(matrix, exclude, document(), ()))
