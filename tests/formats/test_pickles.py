"""The pickle interpreter, against Python's own unpickler and against pickles that mean harm."""

from __future__ import annotations

import gc
import io
import math
import os
import pickle
import random
import struct
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import pickled_numpy, pickled_objects, pickles
from interlingua.formats.base import SourceFile
from interlingua.formats.pickles import (
    LARGE,
    Global,
    Inert,
    InertDict,
    Opaque,
    Record,
    Span,
    TextSpan,
    describe,
    keyed,
    load,
    refuse_call,
)
from tests.formats.hostile import damaged

PLAIN = {**pickled_objects.ALLOWED, **pickled_numpy.ALLOWED}

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**300), 2**300)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=400)
    | st.binary(max_size=400)
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.integers(-(2**59), 2**59) | st.booleans()
OBJECTS = st.recursive(
    SCALARS | st.sets(KEYS, max_size=4) | st.frozensets(KEYS, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=5) | st.lists(inner, max_size=5).map(tuple) | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=20,
)


def loaded(data: bytes, allowed=PLAIN, persistent=None, around: bytes = b"") -> object:
    """What the interpreter makes of a pickle in a file, with the bytes that it left there read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.pkl"
        path.write_bytes(around + data + around)
        with SourceFile(path) as file:
            value, end = load(file, len(around), file.size, allowed, persistent)
            assert end == len(around) + len(data) or not around
            return resolved(file, value)


def resolved(file: SourceFile, value: object) -> object:
    match value:
        case Span():
            return file.read_at(value.offset, value.nbytes, "")
        case TextSpan():
            return file.read_at(value.offset, value.nbytes, "").decode()
        case dict():
            return {key: resolved(file, entry) for key, entry in value.items()}
        case list():
            return [resolved(file, entry) for entry in value]
        case tuple():
            return tuple(resolved(file, entry) for entry in value)
    return value


def same(a: object, b: object) -> bool:
    """Whether two values are of the same types and equal, a NaN equal to a NaN."""
    match a:
        case float() if isinstance(b, float):
            return struct.pack(">d", a) == struct.pack(">d", b) or (math.isnan(a) and math.isnan(b))
        case dict() if isinstance(b, dict):
            return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
        case list() | tuple() if type(a) is type(b):
            return len(a) == len(b) and all(map(same, a, b))
    return a == b and (type(a) is type(b) or isinstance(a, (set, frozenset)))


def refused(data: bytes, match: str, allowed=PLAIN, persistent=None) -> FormatError:
    with pytest.raises(FormatError, match=match) as caught:
        loaded(data, allowed, persistent)
    assert caught.value.path is not None
    return caught.value


# Pickles that mean well


@settings(max_examples=300)
@given(OBJECTS, st.integers(3, 5))
def test_what_python_pickles_is_read_back(value, protocol):
    assert same(loaded(pickle.dumps(value, protocol), around=b"..junk.."), value)


def without_bytes(value: object) -> object:
    """The value with its byte strings short: protocols before 3 write long ones as texts in Latin-1."""
    match value:
        case bytes():
            return value[:100]
        case dict():
            return {key: without_bytes(entry) for key, entry in value.items()}
        case list():
            return [without_bytes(entry) for entry in value]
        case tuple():
            return tuple(without_bytes(entry) for entry in value)
    return value


@settings(max_examples=200)
@given(OBJECTS.map(without_bytes), st.integers(0, 2))
def test_what_python_pickles_in_old_protocols_is_read_back(value, protocol):
    assert same(loaded(pickle.dumps(value, protocol)), value)


@pytest.mark.parametrize("protocol", range(6))
def test_an_object_that_is_held_twice_is_one_object(protocol):
    inner = [1]
    value = loaded(pickle.dumps({"a": inner, "b": (inner, inner)}, protocol))
    assert value == {"a": [1], "b": ([1], [1])}
    with tempfile.NamedTemporaryFile() as out:
        out.write(pickle.dumps([inner, inner], protocol))
        out.flush()
        with SourceFile(out.name) as file:
            found, _ = load(file, 0, file.size, PLAIN)
    assert isinstance(found, list)
    assert found[0] is found[1]


@pytest.mark.parametrize("size", [0, 1, LARGE - 1, LARGE, 70_000])
def test_long_strings_stay_in_the_file_and_short_ones_do_not(tmp_path, size):
    value = {"b": b"\xfe" * size, "t": "ü" * (size // 2), "a": bytearray(b"\x01" * size)}
    for protocol in (4, 5):
        data = pickle.dumps(value, protocol)
        (tmp_path / "x").write_bytes(b"12345" + data)
        with SourceFile(tmp_path / "x") as file:
            found, _ = load(file, 5, file.size, PLAIN)
            assert isinstance(found, dict)
            assert isinstance(found["b"], Span if size >= LARGE else bytes)
            assert isinstance(found["t"], TextSpan if size // 2 * 2 >= LARGE else str)
            if size >= LARGE:
                assert found["b"] == Span(5 + data.index(b"\xfe" * size), size)
            assert resolved(file, found["b"]) == value["b"]
            assert resolved(file, found["t"]) == value["t"]
            if protocol == 5:
                assert resolved(file, found["a"]) == value["a"]


def test_a_long_text_may_be_a_key_and_an_endless_one_may_not():
    assert loaded(pickle.dumps({"k" * 60_000: 1})) == {"k" * 60_000: 1}
    refused(pickle.dumps({"k" * 70_000: 1}), "key that is refused")


@pytest.mark.parametrize(
    "data",
    [
        b"S'abc'\n.",
        b'S"it\'s \\x41\\101\\n\\\\"\n.',
        b"S'na\\xc3\\xafve'\n.",
        b"U\x03abc.",
        b"U\x03\xc3\xa9x.",
        b"T\x03\x00\x00\x00abc.",
        b"I01\n.",
        b"I00\n.",
        b"I-5\n.",
        b"L123456789012345678901L\n.",
        b"L12\n.",
        b"F1e-5\n.",
        b"Fnan\n.",
        b"V\\u00e9\xe9\n.",
        b"(I1\nI2\ntp0\n0g0\n.",
        b"(lp0\nI1\na.",
        b"(dp0\nS'a'\nI1\ns.",
        b"(I1\n1N.",
        b"N(I1\n(0000N.",
        b"I1\n2\x86.",
        b"]\x94K\x05a.",
        b"\x8a\x00.",
        b"\x8b\x02\x00\x00\x00\x00\x80.",
        b"J\xff\xff\xff\xff.",
        b"M\xff\xff.",
    ],
)
def test_rare_opcodes_mean_what_python_says(data):
    assert same(loaded(data), pickle.loads(data, encoding="utf-8"))


def test_a_string_of_python_2_that_is_no_text_stays_bytes():
    assert loaded(b"U\x02\xff\xfe.") == b"\xff\xfe"
    assert loaded(b"S'\\xff'\n.") == b"\xff"


def test_several_pickles_in_a_row_are_read_one_after_the_other(tmp_path):
    parts = [pickle.dumps(value, 2) for value in (1, {"a": 2}, [3])]
    (tmp_path / "x").write_bytes(b"".join(parts))
    found, at = [], 0
    with SourceFile(tmp_path / "x") as file:
        for _ in parts:
            value, at = load(file, at, file.size, PLAIN)
            found.append(value)
    assert (found, at) == ([1, {"a": 2}, [3]], sum(map(len, parts)))


def test_names_are_looked_up_and_what_they_make_is_ours():
    made = []

    def make(*args: object) -> str:
        made.append(args)
        return "mine"

    allowed = {("os", "system"): make}
    for data in (
        b"cos\nsystem\n(S'rm'\ntR.",
        b"\x8c\x02os\x8c\x06system\x93\x8c\x02rm\x85R.",
        b"cos\nsystem\nS'rm'\n\x85\x81.",
        b"cos\nsystem\nS'rm'\n\x85}\x92.",
        b"(S'rm'\nios\nsystem\n.",
        b"(cos\nsystem\nS'rm'\no.",
    ):
        assert loaded(data, allowed) == "mine"
    assert made == [("rm",)] * 6
    assert loaded(b"cos\nsystem\n.", allowed) == Global("os", "system", refuse_call)


def test_state_is_given_to_stand_ins_only_and_by_their_own_method():
    class Kept(Inert):
        state: object = None

        def set_state(self, state: object) -> None:
            self.state = state

    kept = Kept()
    assert loaded(b"ca\nb\n)RK\x05b.", {("a", "b"): lambda: kept}) is kept
    assert kept.state == 5
    refused(b"ca\nb\n)R}b.", "takes no state", {("a", "b"): Inert})
    refused(b"ca\nb\n)RK\x05b.", "state that is refused", {("a", "b"): Record})
    assert loaded(b"ca\nb\n)RK\x05b.", {("a", "b"): InertDict}) == {}
    assert loaded(b"ca\nb\n)RK\x05b.", {("a", "b"): lambda: Opaque("x")}).title == "x"
    record = loaded(b"ca\nb\n)R}S'k'\nK\x05s}S'l'\nK\x06s\x86b.", {("a", "b"): Record})
    assert record.state == {"k": 5, "l": 6}


def test_persistent_ids_are_resolved_by_the_caller():
    assert loaded(b"Pname\n.", persistent=lambda identity: [identity]) == ["name"]
    assert loaded(b"K\x05Q.", persistent=lambda identity: [identity]) == [5]
    refused(b"K\x05Q.", "outside of it")

    def refuse(identity: object) -> object:
        raise ValueError("not that one")

    refused(b"K\x05Q.", "not that one", persistent=refuse)


# Pickles that mean harm


class _Command:
    """Reduces to a call, as the pickles of attackers do."""

    def __init__(self, function: object, *args: object) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.function, self.args


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_that_a_pickle_asks_for_is_run(tmp_path, protocol):
    sentinel = tmp_path / "ran"
    code = f"open({str(sentinel)!r}, 'w').close()"
    attacks = [
        _Command(os.system, f"touch {sentinel}"),
        _Command(eval, code),
        _Command(exec, code),
        _Command(open, str(sentinel), "w"),
        _Command(getattr, _Command(__import__, "os"), "system"),
        _Command(map, _Command(eval, code), [1]),
        [_Command(os.makedirs, str(sentinel))],
        {"weights": {"deep": (1, _Command(os.mkdir, str(sentinel)))}},
    ]
    for attack in attacks:
        error = refused(pickle.dumps(attack, protocol), "not run")
        assert error.exit_code == 3
        assert error.offset is not None
    assert not sentinel.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch SENTINEL'\ntR.",
        b"(S'touch SENTINEL'\nios\nsystem\n.",
        b"(cos\nsystem\nS'touch SENTINEL'\no.",
        b"\x8c\x05posix\x8c\x06system\x93\x8c\x0etouch SENTINEL\x85R.",
        b"\x80\x04\x8c\x08builtins\x8c\x0cgetattr.sytm\x93.",
        b"cbuiltins\n__import__\nS'os'\n\x85R.",
        b"c__builtin__\neval\nS'1'\n\x85R.",
        b"cnumpy\nload\n.",
        b"cbuiltins\nobject.__subclasses__\n.",
        b"cbuiltins\nobject\n)R}S'__setstate__'\ncos\nsystem\nsb.",
        b"ccollections\nOrderedDict.fromkeys\n.",
        b"c\n\n.",
        b"c_codecs\ndecode\n.",
        b"cbuiltins\n\xff\n.",
        b"c" + b"x" * 10_000 + b"\ny\n.",
        b"\x8cK\x01\x93.",
        b"K\x01K\x02\x93.",
        b"\x82\x01.",
        b"\x83\x01\x00.",
        b"\x84\x01\x00\x00\x00.",
        b"\x97.",
        b"\x98.",
        b"\x80\x06N.",
        b"\x80\xffN.",
        b"\xff.",
        b"S'os'\nS'x'\n\x85R.",
        b"}S'x'\n\x85R.",
        b"}}b.",
        b"]}b.",
        b"K\x01}b.",
        b"S'text'\n}S'a'\nK\x01sb.",
        b"cbuiltins\nset\n}b.",
        b"cbuiltins\nset\n]R.",
        b"cbuiltins\nset\nNR.",
        b"cbuiltins\nint\n)R.",
        b"cargparse\nNamespace\n)}S'a'\nK\x01s\x92.",
        b"cargparse\nNamespace\nK\x05\x85R.",
    ],
)
def test_every_way_to_reach_code_is_closed(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    refused(data, ".")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "needs 1 bytes"),
        (b"N", "needs 1 bytes"),
        (b".", "empty stack"),
        (b"NN.", "more than one object"),
        (b"(N.", "more than one object"),
        (b"0.", "mark that was never set"),
        (b"1N.", "mark that was never set"),
        (b"2.", "empty stack"),
        (b"t.", "mark that was never set"),
        (b"\x86.", "empty stack"),
        (b"a.", "empty stack"),
        (b"NNa.", "appends to None"),
        (b"N(Ne.", "appends to None"),
        (b"NNNs.", "sets items of None"),
        (b"N(NNu.", "sets items of None"),
        (b"}(Nu.", "has no value"),
        (b"(Nd.", "has no value"),
        (b"N(N\x90.", "adds to None"),
        (b"q\x00.", "empty stack"),
        (b"h\x07.", "never made"),
        (b"j\xff\xff\xff\xff.", "never made"),
        (b"g-1\n.", "never made"),
        (b"Np-1\n.", "negative place"),
        (b"Npx\n.", "damaged integer"),
        (b"I1_000\n.", "damaged integer"),
        (b"I \n.", "damaged integer"),
        (b"L\n.", "damaged integer"),
        (b"Fx\n.", "damaged number"),
        (b"S'abc\n.", "damaged string"),
        (b"S'\n.", "damaged string"),
        (b"V\\u12\n.", "damaged text"),
        (b"V\\ud800\n.", "damaged text"),
        (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"X\x03\x00\x00\x00\xed\xa0\x80.", "not UTF-8"),
        (b"I" + b"1" * 2000 + b"\n.", "does not end"),
        (b"S'" + b"1" * 2_000_000, "does not end"),
        (b"\x8b\xff\xff\xff\x7f.", "integer of"),
        (b"\x8b\xff\xff\xff\xff.", "integer of"),
        (b"\x95" + b"\xff" * 8 + b"N.", "needs"),
        (b"oN.", "mark that was never set"),
        (b"(o.", "calls None"),
    ],
)
def test_a_broken_pickle_is_refused_with_its_place(data, match):
    assert refused(data, match).offset is not None


@pytest.mark.parametrize("code", [b"B", b"T", b"X"])
@pytest.mark.parametrize("length", [2, 300, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_lies_is_refused_before_anything_is_read(code, length):
    refused(code + struct.pack("<I", length) + b".", "where only")


@pytest.mark.parametrize("code", [b"\x8e", b"\x8d", b"\x96"])
@pytest.mark.parametrize("length", [2, 300, 1 << 31, (1 << 63) - 1, (1 << 64) - 1])
def test_a_64_bit_length_that_lies_is_refused_before_anything_is_read(code, length):
    refused(code + struct.pack("<Q", length) + b".", "where only")


def test_a_pickle_cannot_read_beyond_its_end(tmp_path):
    (tmp_path / "x").write_bytes(b"B\x00\x01\x00\x00" + bytes(256) + b".")
    with SourceFile(tmp_path / "x") as file:
        assert load(file, 0, 262, {})[0] == Span(5, 256)
        for stop in (0, 1, 5, 100, 260, 261):
            with pytest.raises(FormatError):
                load(file, 0, stop, {})
        with pytest.raises(FormatError):
            load(file, 0, 263, {})


@pytest.mark.parametrize(
    "key",
    [
        b"]",
        b"}",
        b"\x8f",
        b"N\x85\x85",
        b"N" + b"\x85" * 100_000,
        b"(" + b"N" * 17 + b"t",
        b"(\x91",
        b"cargparse\nNamespace\n)R",
        b"B\x00\x01\x00\x00" + bytes(256),
    ],
)
def test_a_key_whose_hash_could_fail_or_crash_is_refused(key):
    refused(b"}" + key + b"Ns.", "key that is refused")
    refused(b"\x8f(" + key + b"\x90.", "key that is refused")


@pytest.mark.parametrize(
    "keys",
    [
        b"".join(b"\x8a\x0b" + ((2**61 - 1) * i).to_bytes(11, "little") + b"N" for i in range(1, 2000)),
        b"".join(b"G" + struct.pack(">d", 1.5 * i) + b"N" for i in range(1, 2000)),
        b"".join(b"M" + struct.pack("<H", i) + b"N\x86N" for i in range(1, 2000)),
    ],
)
def test_keys_whose_hashes_can_be_made_to_collide_stay_few(keys):
    refused(b"}(" + keys + b"u.", "too many")


BOMBS = {
    "containers": b"}" * 100_000,
    "marks": b"(" * 100_000,
    "nested tuples": b"N" + b"\x85" * 100_000 + b".",
    "memo": b"N" + b"".join(b"r" + struct.pack("<I", i * 2000) for i in range(100_000)) + b".",
    "memoize": b"N" + b"\x94" * 100_000 + b".",
    "numbers": b"(" + b"M\xff\xff" * 200_000 + b"t.",
    "floats": b"(" + b"Gabcdefgh" * 200_000 + b"t.",
    "texts": b"(" + b"\x8c\x03abc" * 100_000 + b"t.",
    "wide texts": b"(" + (b"\x8c\xf4" + "\U0001f600".encode() + b"a" * 240) * 20_000 + b"t.",
    "nothings": b"(" + b"N" * 400_000 + b"t.",
    "entries": b"}(" + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(100_000)) + b"u.",
    "elements": b"\x8f(" + b"".join(b"J" + struct.pack("<i", i) for i in range(100_000)) + b"\x90.",
    "copies": b"cbuiltins\nlist\nq\x00](" + b"N" * 10_000 + b"eq\x01(" + b"h\x00h\x01\x85R" * 1000 + b"t.",
    "updates": b"cargparse\nNamespace\n)R}("
    + b"".join(b"J" + struct.pack("<i", i) + b"N" for i in range(5_000))
    + b"uq\x01b"
    + b"h\x01b" * 500
    + b".",
    "paths": b"cpathlib\nPath\nq\x00(" + b"\x8c\xc8" + b"a" * 200 + b"\x94" + b"h\x01" * 500 + b"tq\x02("
    b"h\x00h\x02R" * 500 + b"t.",
    "names": b"(" + b"cbuiltins\nset\n" * 100_000 + b"t.",
    "calls": b"cargparse\nNamespace\nq\x00(" + b"h\x00)R" * 100_000 + b"t.",
    "idle opcodes": b"\x80\x02" * 400_000 + b"N.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_its_budget(tmp_path, monkeypatch, name):
    budget = 2 << 20
    monkeypatch.setattr(pickles, "BUDGET", budget)
    (tmp_path / "x").write_bytes(BOMBS[name])
    gc.collect()
    with SourceFile(tmp_path / "x") as file:
        tracemalloc.start()
        try:
            with pytest.raises(FormatError, match="too much memory"):
                load(file, 0, file.size, PLAIN)
            assert tracemalloc.get_traced_memory()[1] < budget + (1 << 20)
        finally:
            tracemalloc.stop()


def test_deep_nesting_is_read_without_recursion(tmp_path):
    (tmp_path / "x").write_bytes(b"]" * 300_000 + b"a" * 299_999 + b".")
    with SourceFile(tmp_path / "x") as file:
        assert isinstance(load(file, 0, file.size, PLAIN)[0], list)


class _Careful(pickle._Unpickler):
    """Python's unpickler (the one in Python: the other takes a memo's size from the file), for plain data."""

    def find_class(self, module: str, name: str) -> object:
        raise pickle.UnpicklingError("no classes here")


_PYTHON_REFUSES = (pickle.UnpicklingError, AttributeError, EOFError, LookupError, TypeError, ValueError)


@pytest.mark.parametrize("protocol", range(6))
def test_a_damaged_pickle_is_refused_or_means_what_python_says_it_means(protocol):
    rng = random.Random(protocol)
    value = {
        "name": [1, 2.5, None, True, "ünï", -(2**70)],
        "t": ((), (1,), (1, 2), (1, 2, 3, 4)),
        "x": {"y": {"z": []}},
    }
    original = pickle.dumps(value, protocol)
    agreed = 0
    for _ in range(600):
        data = damaged(original, rng)
        try:
            found = loaded(data)
        except FormatError:
            continue
        try:
            expected = _Careful(io.BytesIO(data), encoding="utf-8").load()
        except _PYTHON_REFUSES:
            continue
        assert same(found, expected), data
        agreed += 1
    assert agreed > 40


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "None"),
        (1 << 4000, "an enormous integer"),
        ("x" * 1000, "'" + "x" * 77 + "...'"),
        ([], "an empty list"),
        ({1: 2}, "a dict of 1"),
        (b"abc", "3 bytes"),
        (Span(0, 9), "9 bytes"),
        (Global("a", "b", refuse_call), "a.b"),
        (Opaque("a thing"), "a thing"),
        (Record(), "a Record"),
        (1 + 2j, "(1+2j)"),
    ],
)
def test_values_are_described_in_a_few_words(value, words):
    assert describe(value) == words


def test_pairs_make_a_dict_or_are_refused():
    assert keyed([("a", 1), ["b", 2]]) == {"a": 1, "b": 2}
    assert keyed({"a": 1}) == {"a": 1}
    for wrong in (5, [1], [(1, 2, 3)], [([], 1)], "ab"):
        with pytest.raises(ValueError, match=r"pair|key|cannot be one"):
            keyed(wrong)
