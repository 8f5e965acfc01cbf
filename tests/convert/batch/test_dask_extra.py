"""What is asked of a scheduler's address before Dask is imported."""

from __future__ import annotations

import importlib.util

import pytest

from interlingua.convert.batch.dask_extra import require_dask
from interlingua.errors import UsageError


@pytest.mark.parametrize("address", ["", "somewhere", "http://127.0.0.1:1", "127.0.0.1:8786"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a Dask scheduler"):
        require_dask(address)


@pytest.mark.parametrize("address", ["local", "tcp://127.0.0.1:1"])
def test_where_dask_is_missing_the_extra_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'interlingua\[dask\]'"):
        require_dask(address)
