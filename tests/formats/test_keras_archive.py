"""``.keras`` archives, stored and deflated, sound and hostile."""

from __future__ import annotations

import json
import random
import tempfile
import zipfile

import numpy as np
import pytest

from interlingua.errors import FormatError
from interlingua.formats import json_text, keras_archive, registry
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import FLOAT32
from interlingua.formats.keras_archive import KerasArchiveReader, open_reader, sniff
from interlingua.formats.keras_weights_hdf5 import open_writer
from tests.formats.hostile import check_reader, damaged

X = np.arange(200, dtype="f4").reshape(10, 20)
CONFIG = '{"module": "os", "class_name": "system", "config": {"name": "touch /tmp/never"}}'


def weights(path):
    names = json.dumps({"layers/dense/vars": "dense"})
    with open_writer(path, [TensorSpec("layers/dense/vars/0", FLOAT32, X.shape)], metadata={"names": names}) as writer:
        writer.write("layers/dense/vars/0", X.tobytes())
        writer.finish()
    return path.read_bytes()


def archive(tmp_path, method=zipfile.ZIP_STORED, **members):
    path = tmp_path / "x.keras"
    (tmp_path / "model.weights.h5").unlink(missing_ok=True)
    contents = {
        "metadata.json": b'{"keras_version": "3.9.0", "date_saved": "today", "number": 1}',
        "config.json": CONFIG.encode(),
        "model.weights.h5": weights(tmp_path / "model.weights.h5"),
        **{name.replace("_", "."): data for name, data in members.items()},
    }
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in contents.items():
            if data is not None:
                file.writestr(name, data)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_weights_in_an_archive_are_read(tmp_path, method):
    path = archive(tmp_path, method)
    assert sniff(registry.probe(path))
    with open_reader(path) as reader:
        assert reader.read("layers/dense/vars/0").tolist() == X.tolist()
        assert reader.names == {"layers/dense/vars": "dense"}
        assert reader.metadata["keras_version"] == "3.9.0"
        assert "number" not in reader.metadata


def test_stored_weights_are_handed_out_as_they_lie(tmp_path):
    path = archive(tmp_path)
    with open_reader(path) as reader:
        (extent,) = reader.extents("layers/dense/vars/0")
        assert extent.file.path == path
        assert extent.offset == path.read_bytes().index(X.tobytes())


def test_deflated_weights_leave_no_file_behind(tmp_path, monkeypatch):
    path = archive(tmp_path, zipfile.ZIP_DEFLATED)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with open_reader(path) as reader:
        assert list(temporary.iterdir()) == []
        (extent,) = reader.extents("layers/dense/vars/0")
        assert extent.nbytes == X.nbytes


def test_the_configuration_is_text_and_nothing_else(tmp_path):
    with open_reader(archive(tmp_path)) as reader:
        assert reader.objects["config.json"] == CONFIG


def test_versions_that_are_no_object_say_nothing(tmp_path):
    with open_reader(archive(tmp_path, metadata_json=b"[1]")) as reader:
        assert set(reader.metadata) == {"names"}


def test_an_archive_needs_no_configuration(tmp_path):
    with open_reader(archive(tmp_path, config_json=None, metadata_json=None)) as reader:
        assert "config.json" not in reader.objects
        assert set(reader.metadata) == {"names"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"config_json": b"\xff\xfe"}, "config.json that is no UTF-8"),
        ({"metadata_json": b"{"}, "metadata.json that is no JSON"),
        ({"metadata_json": b"[" * 100_000}, "metadata.json that is no JSON"),
    ],
)
def test_texts_that_are_none_are_refused(tmp_path, members, message):
    with pytest.raises(FormatError, match=message):
        open_reader(archive(tmp_path, **members))


def test_texts_that_are_too_long_are_refused(tmp_path):
    text = b'"' + b"x" * json_text.MAX_JSON + b'"'
    with pytest.raises(FormatError, match=r"config\.json of \d+ bytes"):
        open_reader(archive(tmp_path, zipfile.ZIP_DEFLATED, config_json=text))


def test_an_archive_without_weights_in_hdf5_is_refused(tmp_path):
    path = tmp_path / "x.keras"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", "{}")
        file.writestr("model.weights.npz", b"")
    assert not sniff(registry.probe(path))
    with pytest.raises(FormatError, match=r"has no model\.weights\.h5"):
        open_reader(path)


def test_weights_that_unpack_out_of_all_proportion_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras_archive, "SMALL", 1 << 16)
    path = archive(tmp_path, zipfile.ZIP_DEFLATED, model_weights_h5=bytes(1 << 20))
    with pytest.raises(FormatError, match="unpacks to 1048576 bytes"):
        open_reader(path)


def test_no_room_to_unpack_is_said_so(tmp_path, monkeypatch):
    path = archive(tmp_path, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(FormatError, match=r"cannot be unpacked: .* Give TMPDIR \d+ bytes of room"):
        open_reader(path)


def test_weights_that_are_no_hdf5_are_refused(tmp_path):
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with pytest.raises(FormatError, match=r"x\.keras: has no HDF5 superblock"):
            open_reader(archive(tmp_path, method, model_weights_h5=bytes(5000)))


def test_weights_do_not_reach_beyond_their_member(tmp_path):
    """A superblock that claims more than the member has is refused, though the archive goes on behind it."""
    data = bytearray(weights(tmp_path / "w.h5"))
    data[40:48] = (len(data) + 100).to_bytes(8, "little")
    path = archive(tmp_path, model_weights_h5=bytes(data), z=bytes(1000))
    with pytest.raises(FormatError, match="should have"):
        open_reader(path)


def test_other_files_are_not_taken_for_archives(tmp_path):
    (tmp_path / "x").write_bytes(b"PK\x03\x04 and no more")
    assert not sniff(registry.probe(tmp_path / "x"))
    with zipfile.ZipFile(tmp_path / "y", "w") as file:
        file.writestr("archive/data.pkl", b"")
    assert not sniff(registry.probe(tmp_path / "y"))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damaged_archives_are_read_or_refused_and_nothing_else(tmp_path, method):
    path = archive(tmp_path, method)
    data = path.read_bytes()
    rng = random.Random(method)
    assert check_reader(KerasArchiveReader, path)
    for _ in range(150):
        path.write_bytes(damaged(data, rng))
        check_reader(KerasArchiveReader, path)
