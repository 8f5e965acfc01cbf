"""What is the network's fault, and what this program's."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from interlingua.convert.remote.failures import reach
from interlingua.convert.remote.retries import persistent
from interlingua.errors import FormatError
from interlingua.formats.archive_names import name_flaw, plain_name

OWN: dict[str, tuple[type[Exception], Callable[[], object]]] = {
    "a call without its argument": (TypeError, lambda: persistent(lambda needed: needed)),  # type: ignore[misc,arg-type]
    "an attribute that is not there": (AttributeError, lambda: plain_name(5)),  # type: ignore[arg-type]
    "a value of another type": (TypeError, lambda: name_flaw(5)),  # type: ignore[arg-type]
}


def strange_answer() -> object:
    """Fail as a client's library does where an answer is none that it knows."""
    return json.JSONDecoder().decode(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("what", OWN)
def test_a_fault_of_this_program_is_not_said_to_be_the_network_s(what: str) -> None:
    kind, action = OWN[what]
    with pytest.raises(kind):
        reach(action, "s3://bucket/a", "s3")
    pytest.importorskip("huggingface_hub")
    from interlingua.convert.remote.hub_requests import Requests

    with pytest.raises(kind):
        Requests("https://hub", "somebody/model").ask(action, "hf://somebody/model")


def test_a_library_that_fails_at_an_answer_is_an_error_of_the_place() -> None:
    with pytest.raises(FormatError, match="s3://bucket/a: cannot be read: TypeError") as caught:
        reach(strange_answer, "s3://bucket/a", "s3")
    assert "Credentials" in str(caught.value)
