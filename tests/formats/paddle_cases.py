"""Tensors as Paddle holds them, for the tests of its three containers."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from interlingua.formats.base import Reader, TensorSpec, Writer, blocks, read_extents
from interlingua.formats.dtypes import DTYPES
from tests.formats import strategies
from tests.frameworks import run_in

Facts = dict[str, tuple[str, tuple[int, ...], bytes]]
"""Dtype, shape and row-major little-endian bytes, by name."""

DTYPE_NAMES = (*strategies.COMMON, "complex64", "complex128")
"""Element types that Paddle can load."""

CASES = st.lists(strategies.cases(DTYPE_NAMES, min_size=1, max_size=5), min_size=20, max_size=20)
"""Enough checkpoints for one process to check."""

PREAMBLE = """
import os, pickle, sys
if "--old-ir" in sys.argv:
    os.environ["FLAGS_enable_pir_api"] = "0"
import numpy as np
import paddle
from paddle.base import core

def tensor(dtype, shape, data):
    return paddle.to_tensor(np.frombuffer(data, "uint16" if dtype == "bfloat16" else dtype).reshape(shape))

def facts(value):
    array = np.asarray(value)
    return ("bfloat16" if array.dtype == np.uint16 else array.dtype.name), array.shape, array.tobytes()

def dump(value, path):
    with open(path, "wb") as file:
        pickle.dump(value, file)

with open(sys.argv[1], "rb") as file:
    given = pickle.load(file)
folder = sys.argv[2]
"""

_numbers = itertools.count()


def in_paddle(code: str, given: object, folder: Path, *, old_ir: bool = False) -> object:
    """Run ``code`` in Paddle with ``given`` and ``folder``; return what it called ``dump`` with, on ``answer``."""
    number = next(_numbers)
    question, answer = folder.parent / f"question-{number}", folder.parent / f"answer-{number}"
    question.write_bytes(pickle.dumps(given))
    ending = "\ndump(answer, sys.argv[3])" if "answer" in code else ""
    run_in("paddle", PREAMBLE + code + ending, question, folder, answer, *(["--old-ir"] if old_ir else []))
    return pickle.loads(answer.read_bytes()) if ending else None


def fresh(folder: Path) -> Path:
    """Return a new folder of its own below ``folder``."""
    path = folder / f"place-{next(_numbers)}" / "folder"
    path.mkdir(parents=True)
    return path


def facts_of(case: strategies.Case) -> Facts:
    """What a case holds."""
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in case.arrays.items()}


def as_stored(facts: Facts) -> Facts:
    """The same with bfloat16 as a pickle has it."""
    return {name: ("uint16" if d == "bfloat16" else d, shape, data) for name, (d, shape, data) in facts.items()}


def read_facts(reader: Reader, block: int = 7) -> Facts:
    """What a reader gives, in blocks of odd sizes; where there are extents they must say the same."""
    found: Facts = {}
    for name, spec in reader.tensors.items():
        data = bytearray(spec.nbytes)
        for start, length in blocks(spec.nbytes, block if spec.nbytes < 5000 else 4099):
            reader.read_into(name, start, memoryview(data)[start : start + length])
        extents = reader.extents(name)
        if extents is not None:
            assert sum(extent.nbytes for extent in extents) == spec.nbytes
            copy = bytearray(spec.nbytes)
            read_extents(extents, 0, memoryview(copy))
            assert copy == data
        found[name] = spec.dtype.name, spec.shape, bytes(data)
    return found


def specs_of(facts: Facts) -> list[TensorSpec]:
    return [TensorSpec(name, DTYPES[dtype], shape) for name, (dtype, shape, _) in facts.items()]


def write_facts(writer: Writer, facts: Facts) -> None:
    """Write tensors in another order than the file's, and finish."""
    with writer:
        for name, (_, _, data) in reversed(facts.items()):
            writer.write(name, data)
        writer.finish()


def random_facts(shapes: Mapping[str, tuple[int, ...]], dtype: str = "float32", seed: int = 0) -> Facts:
    rng = np.random.default_rng(seed)
    size = DTYPES[dtype].itemsize
    return {name: (dtype, shape, rng.bytes(int(np.prod(shape)) * size)) for name, shape in shapes.items()}
