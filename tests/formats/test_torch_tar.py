"""PyTorch's tar files, against PyTorch, which still reads them but no longer writes them."""

from __future__ import annotations

import io
import pickle
import random
import struct
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from interlingua.errors import FormatError
from interlingua.formats import torch_legacy, torch_tar, torch_zip
from interlingua.formats.base import SourceFile
from interlingua.formats.registry import probe
from interlingua.formats.torch_tar import TarMember, tar_members
from tests.formats import strategies
from tests.formats import torch_cases as cases
from tests.formats.hostile import check_reader, damaged
from tests.formats.torch_cases import Call, Global, Persistent, torch

KINDS = {
    torch.float64: "Double",
    torch.float32: "Float",
    torch.float16: "Half",
    torch.int64: "Long",
    torch.int32: "Int",
    torch.int16: "Short",
    torch.int8: "Char",
    torch.uint8: "Byte",
}
"""The types that PyTorch had when it wrote tar files."""


def storages_of(
    rows: list[tuple[object, object, object, bytes, int]], views: object = (), count: int | None = None
) -> bytes:
    """The member ``storages``: (key, location, class, data, element size) a row."""
    out = cases.dumps(len(rows) if count is None else count)
    for key, location, kind, data, width in rows:
        out += cases.dumps((key, location, kind)) + struct.pack("<q", len(data) // width) + data
    return out + cases.dumps(list(views) if isinstance(views, tuple) else views)


def tensors_of(rows: list[tuple[object, object, tuple, tuple, int]], count: int | None = None) -> bytes:
    """The member ``tensors``: (key, storage, size, strides, offset) a row."""
    out = cases.dumps(len(rows) if count is None else count)
    for key, storage, size, strides, offset in rows:
        out += cases.dumps((key, storage, Global("torch", "FloatTensor"))) + struct.pack("<ii", len(size), 0)
        out += struct.pack(f"<{2 * len(size) + 1}q", *size, *strides, offset)
    return out


def tar_of(path: Path, members: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w:", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def members_of(tensors: Mapping[str, torch.Tensor]) -> dict[str, bytes]:
    """The members of a state dict, as PyTorch 0.1 put them together."""
    rows, shapes, entries = [], [], {}
    for i, (name, tensor) in enumerate(tensors.items()):
        untyped = tensor.untyped_storage()
        data = bytes(untyped.tolist())
        data = data[: len(data) // tensor.dtype.itemsize * tensor.dtype.itemsize]
        rows.append((1000 + i, "cpu", Global("torch", f"{KINDS[tensor.dtype]}Storage"), data, tensor.dtype.itemsize))
        shapes.append((2000 + i, 1000 + i, tuple(tensor.shape), tensor.stride(), tensor.storage_offset()))
        entries[name] = Persistent2000(2000 + i)
    return {
        "sys_info": pickle.dumps({"little_endian": True}, 2),
        "pickle": cases.dumps(entries),
        "tensors": tensors_of(shapes),
        "storages": storages_of(rows),
    }


class Persistent2000(Persistent):
    """A persistent id that is one text, as PyTorch 0.1 wrote them."""

    def __init__(self, key: int) -> None:
        super().__init__()
        self.identity = str(key)


def assert_as_pytorch(path: Path) -> dict[str, torch.Tensor]:
    expected = cases.flat(torch.load(path, weights_only=False))
    with torch_tar.open_reader(path) as reader:
        cases.assert_reads(reader, expected)
    return expected


@settings(max_examples=80)
@given(
    cases.state_dicts(strategies.PLAIN_NAMES, tuple(KINDS)),
    st.sampled_from((tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT)),
)
def test_a_tar_is_read_as_pytorch_reads_it(tensors, form):
    with tempfile.TemporaryDirectory() as folder:
        path = tar_of(Path(folder) / "m.pt", members_of(tensors), form)
        seen = probe(path)
        assert (torch_tar.sniff(seen), torch_zip.sniff(seen), torch_legacy.sniff(seen)) == (True, False, False)
        found = assert_as_pytorch(path)
        assert list(found) == list(tensors)
        assert all(cases.bits(found[name]) == cases.bits(tensors[name]) for name in tensors)


DATA = struct.pack("<8f", *range(8))
FLOATS = Global("torch", "FloatStorage")


def one(
    *, storages: bytes | None = None, tensors: bytes | None = None, obj: object = None, drop: str = ""
) -> dict[str, bytes]:
    """The members of a small valid file, with some of them put in other words."""
    members = {
        "sys_info": pickle.dumps({"little_endian": True}, 2),
        "pickle": cases.dumps({"w": Persistent2000(2)} if obj is None else obj),
        "tensors": tensors_of([(2, 1, (2, 4), (4, 1), 0)]) if tensors is None else tensors,
        "storages": storages_of([(1, "cpu", FLOATS, DATA, 4)]) if storages is None else storages,
    }
    return {name: data for name, data in members.items() if name != drop}


def test_parts_of_storages_and_parts_of_parts_are_read_as_pytorch_reads_them(tmp_path):
    storages = storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 1, 2, 5), (12, 1, 0, 8)))
    tensors = tensors_of([(2, 11, (2, 2), (2, 1), 1), (3, 12, (4,), (2,), 0), (4, 1, (), (), 7)])
    obj = {"a": Persistent2000(2), "b": Persistent2000(3), "c": [Persistent2000(4)]}
    path = tar_of(tmp_path / "m.pt", one(storages=storages, tensors=tensors, obj=obj))
    assert torch.equal(assert_as_pytorch(path)["a"], torch.tensor([[3.0, 4.0], [5.0, 6.0]]))
    nested = storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 1, 2, 5), (12, 11, 1, 2)))
    tensors = tensors_of([(2, 12, (2,), (1,), 0)])
    path = tar_of(tmp_path / "n.pt", one(storages=nested, tensors=tensors))
    with torch_tar.open_reader(path) as reader:
        assert cases.data_of(reader, "w") == DATA[12:20]


def test_tensors_that_share_a_storage_are_ties(tmp_path):
    obj = {"a": Persistent2000(2), "b": Persistent2000(2), "s": Persistent2000(1)}
    with torch_tar.open_reader(tar_of(tmp_path / "m.pt", one(obj=obj))) as reader:
        assert reader.extents("a") == reader.extents("b") == reader.extents("s")
        assert reader.tensors["s"].shape == (8,)
        assert reader.tensors["a"].shape == (2, 4)


def test_numpy_arrays_and_objects_in_it_are_read_too(tmp_path):
    obj = {"w": Persistent2000(2), "n": np.arange(300, dtype="<i4"), "epoch": 3}
    with torch_tar.open_reader(tar_of(tmp_path / "m.pt", one(obj=obj))) as reader:
        assert cases.data_of(reader, "n") == np.arange(300, dtype="<i4").tobytes()
        assert reader.objects == {"epoch": 3}


def test_members_under_a_dot_are_found(tmp_path):
    members = {f"./{name}": data for name, data in one().items()}
    path = tar_of(tmp_path / "m.pt", members)
    assert torch_tar.sniff(probe(path))
    with torch_tar.open_reader(path) as reader:
        assert cases.data_of(reader, "w") == DATA


@pytest.mark.parametrize(
    ("members", "match"),
    [
        (one(drop="storages"), "without storages"),
        (one(drop="tensors"), "without tensors"),
        (one(drop="pickle"), "without pickle"),
        (one(obj={"w": Persistent2000(5)}), "no tensor or storage 5"),
        (one(obj={"w": Persistent("x", "y")}), "state_dict"),
        (one(obj=Persistent(Global("torch", "Tensor"), "f.py", "code")), "state_dict"),
        (one(obj=Call("os", "system", "true")), "os.system, .*not run"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], count=2)), ""),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], count=1 << 60)), ""),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], count=-1)), "damaged count"),
        (one(storages=cases.dumps("1")), "damaged count"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 1)])), "which are not there"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4), (1, "cpu", FLOATS, DATA, 4)])), "two things called 1"),
        (one(storages=storages_of([("1", "cpu", FLOATS, DATA, 4)])), "two things called '1'"),
        (one(storages=storages_of([([], "cpu", FLOATS, DATA, 4)])), "two things called"),
        (one(storages=storages_of([(1, None, FLOATS, DATA, 4)])), "refused"),
        (one(storages=storages_of([(1, "cpu", "x", DATA, 4)])), "refused"),
        (one(storages=storages_of([(1, "cpu", Global("torch", "QInt8Storage"), DATA, 4)])), "QInt8Storage"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 1, 6, 5),))), "ends at element 11 of 8"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 1, -1, 5),))), "ends at element"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 7, 1, 5),))), "damaged part"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 1, "1", 5),))), "damaged part"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], ((11, 1, 1),))), "describes"),
        (one(storages=storages_of([(1, "cpu", FLOATS, DATA, 4)], 5)), "describes"),
        (one(tensors=tensors_of([(2, 1, (2, 5), (5, 1), 0)])), "beyond its storage"),
        (one(tensors=tensors_of([(2, 1, (2, 4), (4, 1), 1)])), "beyond its storage"),
        (one(tensors=tensors_of([(2, 1, (2, 4), (4, 1), -1)])), "refused"),
        (one(tensors=tensors_of([(2, 1, (-2, 4), (4, 1), 0)])), "refused"),
        (one(tensors=tensors_of([(2, 1, (2,), (-1,), 0)])), "refused"),
        (one(tensors=tensors_of([(2, 1, (1 << 62, 4), (1, 1), 0)])), "refused"),
        (one(tensors=tensors_of([(2, 1, (1,) * 40, (1,) * 40, 0)])), "40 axes"),
        (one(tensors=tensors_of([(2, 3, (1,), (1,), 0)])), "is no storage"),
        (one(tensors=tensors_of([(2, [1], (1,), (1,), 0)])), "is no storage"),
        (one(tensors=tensors_of([(1, 1, (1,), (1,), 0)])), "two things called 1"),
        (one(tensors=tensors_of([(2, 1, (1,), (1,), 0)])[:-1]), "in the middle of"),
        (one(tensors=cases.dumps(1) + cases.dumps((2, 1))), "describes"),
    ],
)
def test_a_tar_whose_members_lie_is_refused(tmp_path, members, match):
    with pytest.raises(FormatError, match=match or None):
        torch_tar.open_reader(tar_of(tmp_path / "m.pt", members))


def test_nothing_in_a_tar_is_run(tmp_path):
    sentinel = tmp_path / "ran"
    evil = cases.dumps(Call("os", "system", f"touch {sentinel}"))
    for name in ("storages", "tensors", "pickle"):
        with pytest.raises(FormatError, match="not run"):
            torch_tar.open_reader(tar_of(tmp_path / "m.pt", {**one(), name: evil}))
    assert not sentinel.exists()


def test_a_link_in_a_tar_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(one()["storages"])
    with tarfile.open(tmp_path / "m.pt", "w:") as tar:
        for name, data in one(drop="storages").items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            link = tarfile.TarInfo("storages")
            link.type, link.linkname = kind, str(tmp_path / "secret")
            tar.addfile(link)
    with pytest.raises(FormatError, match="without storages"):
        torch_tar.open_reader(tmp_path / "m.pt")


def test_only_tars_with_pytorchs_members_are_taken_for_its_own(tmp_path):
    assert not torch_tar.sniff(probe(tar_of(tmp_path / "a.tar", {"README": b"x"})))
    (tmp_path / "b.tar").write_bytes(bytes(10240))
    assert not torch_tar.sniff(probe(tmp_path / "b.tar"))
    cut = tar_of(tmp_path / "c.tar", one()).read_bytes()[:2000]
    (tmp_path / "c.tar").write_bytes(cut)
    assert torch_tar.sniff(probe(tmp_path / "c.tar"))
    with pytest.raises(FormatError):
        torch_tar.open_reader(tmp_path / "c.tar")


# The tar itself


def found_in(path: Path) -> dict[str, TarMember]:
    with SourceFile(path) as file:
        return tar_members(file)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path, form):
    path = tar_of(tmp_path / "x.tar", {"a": b"", "b": b"x" * 513, "c": b"y" * 1024}, form)
    with tarfile.open(path) as tar:
        assert found_in(path) == {info.name: TarMember(info.offset_data, info.size) for info in tar}


def test_a_size_in_an_extended_header_counts(tmp_path):
    info = tarfile.TarInfo("big")
    info.size = 9 << 30
    with open(tmp_path / "x.tar", "wb") as out:
        out.write(info.tobuf(tarfile.PAX_FORMAT))
        out.truncate(out.tell() + info.size + 1024)
    (member,) = found_in(tmp_path / "x.tar").values()
    assert member.nbytes == 9 << 30
    with open(tmp_path / "y.tar", "wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.truncate(out.tell() + info.size + 1024)
    assert found_in(tmp_path / "y.tar") == {"big": TarMember(512, 9 << 30)}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda raw: raw[:100] + b"x" + raw[101:], "header is damaged"),
        (lambda raw: raw[:124] + b"99999999999\0" + raw[136:], "header is damaged"),
        (lambda raw: sealed(raw[:124] + b"99999999999\0" + raw[136:512]) + raw[512:], "no size"),
        (lambda raw: sealed(raw[:124] + b"77777777777\0" + raw[136:512]) + raw[512:], "the file ends"),
        (lambda raw: sealed(raw[:124] + b"\x80" + b"\xff" * 11 + raw[136:512]) + raw[512:], "the file ends"),
        (lambda raw: raw[:1024] * 2 + raw[1024:], "twice"),
        (lambda raw: b"".join(sealed(b"%04d" % i + empty(raw)[4:]) for i in range(1001)), "too many headers"),
    ],
)
def test_a_tar_that_lies_is_refused(tmp_path, change, match):
    raw = tar_of(tmp_path / "x.tar", {"a": b"1" * 512, "b": b"2"}, tarfile.USTAR_FORMAT).read_bytes()
    (tmp_path / "x.tar").write_bytes(change(raw))
    with pytest.raises(FormatError, match=match):
        found_in(tmp_path / "x.tar")


def empty(header: bytes) -> bytes:
    """The header of a member without data."""
    return header[:124] + b"0" * 11 + b"\0" + header[136:512]


def sealed(header: bytes) -> bytes:
    """The header with its checksum made right."""
    blank = header[:148] + b" " * 8 + header[156:]
    return header[:148] + b"%06o\0 " % sum(blank) + header[156:]


def test_damaged_files_end_in_a_format_error_or_are_read(tmp_path):
    rng = random.Random(40)
    tensors = {"w": cases.random_tensor(torch.float32, (5, 7), 1), "t": cases.random_tensor(torch.int16, (3, 4), 2).T}
    original = tar_of(tmp_path / "m.pt", members_of(tensors)).read_bytes()
    members = members_of(tensors)
    good = 0
    for i in range(800):
        if i % 2:
            (tmp_path / "m.pt").write_bytes(damaged(original, rng))
        else:
            name = rng.choice(list(members))
            tar_of(tmp_path / "m.pt", {**members, name: damaged(members[name], rng)})
        assert torch_tar.sniff(probe(tmp_path / "m.pt")) in (True, False)
        good += check_reader(torch_tar.open_reader, tmp_path / "m.pt")
    assert 0 < good < 800
