"""What happened to a tensor that differs: the usual mishaps, each tried on the numbers themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from interlingua.mappings.schema import layer_of, template
from interlingua.verify.parity.outcome import Cause, WeightsGate
from interlingua.verify.parity.side import Opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

MOST = 64
"""Differing tensors that are looked into."""

NARROW = ("float16", "bfloat16")

SHIFTS = (1, -1, 2, -2, 3, -3)
"""Rows by which tables are found shifted: padding rows, RoBERTa's offset, UER's segment."""


def weight_causes(gate: WeightsGate, a: Opened, b: Opened) -> tuple[Cause, ...]:
    """Return a cause for each tensor that differs, those of one kind in several tensors joined."""
    changed = [name for name, what, _ in gate.differences if what in ("values", "shape")][:MOST]
    owners = {_digest(a.stored(name)): name for name in reversed(changed)}
    found = [_lone(name, what) for name, what, _ in gate.differences if what.startswith("only in")]
    found += [_cause(name, a.stored(name), b.stored(name), owners) for name in changed]
    found += [
        Cause("element type", name, f"{detail}: neither is the other rounded.")
        for name, what, detail in gate.differences
        if what == "dtype"
    ]
    return tuple(_joined(found))


def _digest(x: Array) -> bytes:
    return hashlib.sha256(repr(x.shape).encode() + x.tobytes()).digest()


def _lone(name: str, what: str) -> Cause:
    if name == "masked_lm.decoder.weight":
        return Cause("untied decoder", name, "is the word embedding on one side, and a matrix of its own on the other.")
    side = what.removeprefix("only in ")
    part = name.split(".")[0]
    return Cause(f"missing {part}" if part == "pooler" else "missing tensor", name, f"is only in {side}.")


def _cause(name: str, x: Array, y: Array, owners: Mapping[bytes, str]) -> Cause:
    """Return what made ``y`` of ``x``, the first mishap that explains every element."""
    other = owners.get(_digest(y))
    if other is not None and other != name:
        return _exchanged(name, other)
    for attempt in ATTEMPTS:
        found = attempt(name, x, y)
        if found is not None:
            return found
    if x.shape != y.shape:
        return Cause("shape", name, f"has shape {list(y.shape)} where A has {list(x.shape)}.")
    return _plain(name, x, y)


def _exchanged(name: str, other: str) -> Cause:
    if layer_of(name) == layer_of(other):
        return Cause("swapped tensors", name, f"holds A's {other}.")
    if template(name) == template(other):
        return Cause("exchanged layers", name, f"holds A's {other}.")
    return Cause("swapped tensors", name, f"holds A's {other}.")


def _untransposed(name: str, x: Array, y: Array) -> Cause | None:
    import numpy as np

    if x.ndim == 2 and y.shape == x.shape[::-1] and np.array_equal(y, x.T):
        return Cause("untransposed", name, "is A's matrix with rows and columns exchanged.")
    return None


def _shifted(name: str, x: Array, y: Array) -> Cause | None:
    import numpy as np

    if x.ndim != 2 or x.shape[1:] != y.shape[1:] or "embeddings" not in name:
        return None
    for shift in SHIFTS:
        one, other = (x[shift:], y) if shift > 0 else (x, y[-shift:])
        count = min(len(one), len(other))
        if count and np.array_equal(one[:count], other[:count]):
            what = _table(name)
            at = "before" if shift < 0 else "behind"
            return Cause(f"{what} shifted", name, f"row i of B is A's row {abs(shift)} {at} it, for all {count} rows.")
    return None


def _table(name: str) -> str:
    kinds = {"position": "position offset:", "token_type": "segment rows", "word": "vocabulary rows"}
    return next((words for kind, words in kinds.items() if f"{kind}_embeddings" in name), "rows")


def _narrowed(name: str, x: Array, y: Array) -> Cause | None:
    import ml_dtypes
    import numpy as np

    if x.shape != y.shape:
        return None
    types = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    for kind, dtype in types.items():
        with np.errstate(over="ignore"):
            if np.array_equal(x.astype(dtype).astype(np.float64), y):
                return Cause("narrowed dtype", name, f"every value is A's rounded to {kind}.")
    return None


def _zeroed(name: str, x: Array, y: Array) -> Cause | None:
    if x.shape == y.shape and x.ndim == 1 and not y.any():
        return Cause("zeroed", name, "is all zeros, and A's is not.")
    return None


def _scaled(name: str, x: Array, y: Array) -> Cause | None:
    import numpy as np

    if x.shape != y.shape or not y.any() or np.count_nonzero(x) < 2:
        return None
    rows = x.reshape(-1)[x.reshape(-1) != 0], y.reshape(-1)[x.reshape(-1) != 0]
    ratios = rows[1] / rows[0]
    ratio = float(np.median(ratios))
    if ratio == 1.0 or not np.allclose(ratios, ratio, rtol=1e-6, atol=0):
        return None
    width = x.shape[-1]
    folded = {(width / (width - 1)) ** 0.5, ((width - 1) / width) ** 0.5} if width > 1 else set()
    if any(abs(ratio - factor) < 1e-6 for factor in folded):
        return Cause("folded LayerNorm", name, f"is A's times {ratio:.9g}, which --preserve outputs multiplies by.")
    return Cause("scaled", name, f"is A's times {ratio:.9g}.")


ATTEMPTS: tuple[Callable[[str, Array, Array], Cause | None], ...] = (
    _untransposed,
    _shifted,
    _zeroed,
    _narrowed,
    _scaled,
)
"""Mishaps to try on a tensor, in turn."""


def _plain(name: str, x: Array, y: Array) -> Cause:
    """Say where two tensors differ, where nothing explains how."""
    import numpy as np

    differ = np.argwhere(x != y)
    if not np.isfinite(y).all():
        return Cause("not finite", name, f"has {np.count_nonzero(~np.isfinite(y))} NaNs or infinities.")
    if len(differ) == 1:
        return Cause("one element", name, f"element {differ[0].tolist()} alone differs{_by(x, y, differ)}.")
    if np.array_equal(np.sort(x, axis=None), np.sort(y, axis=None)):
        return Cause("another order", name, f"holds A's values in another order: {len(differ)} of {x.size} have moved.")
    if x.ndim == 2:
        rows = np.unique(differ[:, 0])
        if len(rows) == 1 and len(x) > 1:
            return Cause("one row", name, f"row {rows[0]} alone differs, in {len(differ)} elements{_by(x, y, differ)}.")
        if len(rows) == rows[-1] - rows[0] + 1 == len(x) - rows[0] and rows[0] > 0:
            lost = "zeros there" if not y[rows[0] :].any() else "other values there"
            return Cause("rows beyond", name, f"rows from {rows[0]} on differ, {lost}.")
    return Cause("other values", name, f"{len(differ)} of {x.size} elements differ{_by(x, y, differ)}.")


def _by(x: Array, y: Array, differ: Array) -> str:
    """Say by how much, in units in the last place of float32 where it is a single element."""
    import numpy as np

    if len(differ) != 1:
        return f", by {np.nanmax(np.abs(x - y)):.3g} at most" if len(differ) else " in their bits alone"
    at = tuple(differ[0])
    one, other = np.float32(x[at]), np.float32(y[at])
    units = abs(float(other) - float(one)) / float(np.spacing(np.abs(one)))
    return f": {one:.9g} became {other:.9g}, {units:.3g} units in the last place"


def _joined(causes: list[Cause]) -> Iterator[Cause]:
    """Yield the causes, those with the same name and the same words joined: where they are, is counted."""
    groups: dict[tuple[str, str], list[Cause]] = {}
    for cause in causes:
        groups.setdefault((cause.name, cause.evidence if cause.name == "narrowed dtype" else cause.where), []).append(
            cause
        )
    for group in groups.values():
        first = group[0]
        where = first.where if len(group) == 1 else f"{first.where} and {len(group) - 1} more"
        yield Cause(first.name, where, first.evidence)
