"""Where a dialect is run: every one in its own framework, by references that are there, and by our own at last."""

from __future__ import annotations

import importlib.util

import pytest

from interlingua.mappings.registry import DIALECTS
from interlingua.verify.encoders.own import MODULES
from interlingua.verify.encoders.worker import REFERENCES
from interlingua.verify.parity.references import FRAMEWORKS, OWN, SYSTEMS, System, system_of

FRAMEWORK = {
    "hf": "torch",
    "sentence-transformers": "torch",
    "uer": "torch",
    "tencentpretrain": "torch",
    "hf-tf": "tensorflow",
    "tf1": "tensorflow",
    "tf2": "tensorflow",
    "keras-hub": "tensorflow",
    "keras-bert": "tensorflow",
    "ernie-fluid": "paddle",
    "paddle": "paddle",
    "mindspore": "mindspore",
    "mindnlp": "mindspore",
    "mindformers": "mindspore",
}
"""Dialect -> the framework that its system is written in, as its documentation says."""

THIRD_PARTY = {
    "hf": "transformers",
    "sentence-transformers": "transformers",
    "uer": "uer",
    "tencentpretrain": "uer",
    "hf-tf": "transformers-tf",
    "tf2": "tf-models",
    "keras-hub": "keras-hub",
    "paddle": "paddlenlp",
    "mindnlp": "mindone",
}
"""Dialect -> somebody else's implementation, which is preferred to our own."""


def test_every_dialect_is_run_in_its_own_framework() -> None:
    assert {name: system.framework for name, system in SYSTEMS.items()} == FRAMEWORK
    assert set(DIALECTS) <= set(SYSTEMS)
    assert set(FRAMEWORK.values()) == set(FRAMEWORKS) == set(MODULES)


@pytest.mark.parametrize("dialect", FRAMEWORK)
def test_somebody_elses_implementation_goes_first_and_our_own_last(dialect: str) -> None:
    references = system_of(dialect).references
    assert references[-1] == OWN
    assert references.count(OWN) == 1
    if dialect in THIRD_PARTY:
        assert references[0] == THIRD_PARTY[dialect]


def test_every_reference_has_a_module() -> None:
    for system in SYSTEMS.values():
        for name in system.references:
            assert importlib.util.find_spec(f"interlingua.verify.encoders.{REFERENCES[name]}") is not None
    for name in MODULES.values():
        assert importlib.util.find_spec(f"interlingua.verify.encoders.{name}") is not None


def test_a_dialect_that_another_package_brings_is_run_by_our_own_encoder() -> None:
    assert system_of("somebody's") == System("torch")
    assert system_of("somebody's").references == (OWN,)
