"""The variables of Paddle's programs, against Paddle's own descriptions of them."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import paddle_program
from interlingua.formats.base import SourceFile, TensorSpec
from interlingua.formats.dtypes import DTYPES, FLOAT32
from interlingua.formats.paddle_program import Variable, encode_pir, encode_program, read_variables
from interlingua.formats.protobuf_wire import encode_bytes, encode_number
from tests.formats import paddle_cases as cases
from tests.formats import strategies
from tests.formats.hostile import damaged

SPECS = [TensorSpec("b", FLOAT32, (3, 4)), TensorSpec("a/é", DTYPES["bfloat16"], ()), TensorSpec("c", FLOAT32, (0,))]
VARIABLES = [Variable("a/é", ()), Variable("b", (3, 4)), Variable("c", (0,))]


def variables(path: Path, data: bytes) -> list[Variable]:
    path.write_bytes(data)
    with SourceFile(path) as file:
        return read_variables(file)


def variable(
    name: str | bytes = b"w", kind: int | None = 7, persistable: int = 1, dims: tuple[int, ...] = (2,)
) -> bytes:
    """A VarDesc put together here, from framework.proto alone."""
    desc = encode_number(1, 5) + b"".join(encode_number(2, n) for n in dims)
    var_type = (b"" if kind is None else encode_number(1, kind)) + encode_bytes(3, encode_bytes(1, desc))
    return encode_bytes(3, encode_bytes(1, name) + encode_bytes(2, var_type) + encode_number(3, persistable))


def block(*parts: bytes) -> bytes:
    return encode_bytes(1, encode_number(1, 0) + encode_number(2, -1) + b"".join(parts))


@pytest.mark.parametrize("encode", [encode_program, encode_pir])
def test_what_is_encoded_is_read_again_sorted_by_name(tmp_path, encode):
    assert variables(tmp_path / "m", encode(SPECS)) == VARIABLES
    assert variables(tmp_path / "m", encode([])) == []


@settings(max_examples=40)
@given(strategies.cases(cases.DTYPE_NAMES, strategies.WILD_NAMES))
def test_any_names_and_shapes_survive_both_forms(tmp_path, case):
    expected = sorted((Variable(spec.name, spec.shape) for spec in case.specs), key=lambda found: found.name)
    for encode in (encode_program, encode_pir):
        assert variables(tmp_path / "m", encode(case.specs)) == expected


def test_paddles_own_parser_reads_what_is_encoded(tmp_path):
    folder = cases.fresh(tmp_path)
    answer = cases.in_paddle(
        """
from paddle.base.proto import framework_pb2
program = framework_pb2.ProgramDesc()
program.ParseFromString(given)
(block,) = program.blocks
answer = block.idx, block.parent_idx, len(block.ops), program.version.version, [
    (v.name, v.type.type, v.type.dense_tensor.tensor.data_type, list(v.type.dense_tensor.tensor.dims), v.persistable)
    for v in block.vars
]
""",
        encode_program(SPECS),
        folder,
    )
    declared = [("b", 7, 5, [3, 4], True), ("a/é", 7, 22, [], True), ("c", 7, 5, [0], True)]
    assert answer == (0, -1, 0, 0, declared)


def test_only_persistable_tensors_count(tmp_path):
    program = block(
        variable("feed", 9),
        variable("fetch", 10),
        variable("raw", 17),
        variable("reader", 15),
        variable("rows", 8),
        variable("untyped", None),
        variable("tmp", persistable=0),
        variable("w"),
        encode_bytes(3, variable("tmp_2", persistable=0)[2:] + encode_number(5, 1)),
        encode_bytes(3, variable("v")[2:] + encode_number(4, 0)),
        encode_bytes(4, b"\xff an operator, which nobody parses"),
    )
    assert variables(tmp_path / "m", program) == [Variable("v", (2,)), Variable("w", (2,))]


def test_variables_of_all_blocks_count_once(tmp_path):
    assert variables(tmp_path / "m", block(variable("w")) + block(variable("v"), variable("w"))) == [
        Variable("v", (2,)),
        Variable("w", (2,)),
    ]


def test_a_name_declared_in_two_ways_is_refused(tmp_path):
    with pytest.raises(FormatError, match="'w' in two ways"):
        variables(tmp_path / "m", block(variable("w"), variable("w", dims=(3,))))


def test_the_fixtures_declare_what_lies_beside_them(fixtures_dir):
    folder = fixtures_dir / "PaddlePaddle__PARL/deepes/demo/paddle/cartpole_init_model"
    with SourceFile(folder / "__model__") as file:
        assert read_variables(file) == [
            Variable("fc_0.b_0", (20,)),
            Variable("fc_0.w_0", (4, 20)),
            Variable("fc_1.b_0", (2,)),
            Variable("fc_1.w_0", (20, 2)),
        ]


def pir(operations: object, magic: object = "pir") -> bytes:
    blocks = [{"#": "block_0", "args": [], "ops": operations}]
    return json.dumps({"base_code": {"magic": magic}, "program": {"regions": [{"blocks": blocks}]}}).encode()


def parameter(name: object = "w", dims: object = (2,)) -> dict[str, object]:
    described = [{"#": "0.t_f32"}, dims, "NCHW", [], 0]
    return {"#": "p", "A": [0, 1, 1, name], "O": {"%": 1, "TT": {"#": "0.t_dtensor", "D": described}}}


def test_only_parameters_of_pir_count(tmp_path):
    assert variables(tmp_path / "m", b"\n  " + pir([parameter(), {"#": "1.matmul", "A": [0, 1, 1, "x"]}, 7])) == [
        Variable("w", (2,))
    ]


@pytest.mark.parametrize(
    "data",
    [
        pir([parameter()], magic="other"),
        b"{}",
        b"{",
        b'{"a": \xff}',
        b'{"base_code":' * 100000,
        b"{" + b"[" * 100000,
        b'{"a":' + b"1" * 100000 + b"}",
        pir([parameter(name=7)]),
        pir([parameter(dims="2")]),
        pir([parameter(dims=[2.5])]),
        pir([parameter(dims=[True])]),
        pir([parameter(dims=[1] * 33)]),
        pir([{"#": "p"}]),
        pir([{"#": "p", "A": [0, 1, 1], "O": {"TT": {"D": [{}, [2]]}}}]),
        pir([{"#": "p", "A": [0, 1, 1, "w"], "O": {"TT": {"D": [{}]}}}]),
        pir([parameter(name="\ud800")]),
    ],
)
def test_json_that_is_no_sound_program_is_refused(tmp_path, data):
    with pytest.raises(FormatError):
        variables(tmp_path / "m", data)


@pytest.mark.parametrize(
    "data", [pir(None), pir({}), b'{"base_code":{"magic":"pir"}}', b'{"base_code":{"magic":"pir"},"program":[]}']
)
def test_a_program_without_operations_declares_nothing(tmp_path, data):
    assert variables(tmp_path / "m", data) == []


@pytest.mark.parametrize(
    "data",
    [
        block(variable(b"\xff")),
        block(variable(dims=(1,) * 33)),
        block(encode_bytes(3, b"\x0a\x7f")),
        block(encode_bytes(3, encode_bytes(1, b"w" * 70000))),
        block(variable())[:-1],
        b"\x0a\xff\xff\xff\xff\x0f",
    ],
)
def test_programs_that_lie_are_refused(tmp_path, data):
    with pytest.raises(FormatError):
        variables(tmp_path / "m", data)


def test_a_program_of_too_many_variables_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(paddle_program, "MAX_TENSORS", 3)
    assert len(variables(tmp_path / "m", block(*(variable(f"w{i}") for i in range(3))))) == 3
    with pytest.raises(FormatError, match="more than 3"):
        variables(tmp_path / "m", block(*(variable(f"w{i}") for i in range(4))))


def test_a_program_too_large_to_be_one_is_not_read(tmp_path):
    path = tmp_path / "m"
    for start, size in ((b"\x0a", paddle_program.MAX_PROGRAM), (b"{", paddle_program.MAX_JSON)):
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size + 1)
        with pytest.raises(FormatError, match="too large"), SourceFile(path) as source:
            read_variables(source)


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_damaged_programs_are_read_or_refused(tmp_path, seed):
    rng = random.Random(seed)
    data = damaged(rng.choice([encode_program, encode_pir])(SPECS), rng)
    with contextlib.suppress(FormatError):
        variables(tmp_path / "m", data)
