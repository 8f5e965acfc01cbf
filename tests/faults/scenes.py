"""The commands that are disturbed: each kind of conversion, and each command that only reads."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.families import realistic, write_model
from interlingua.formats import safetensors
from interlingua.formats.base import TensorSpec
from interlingua.formats.dtypes import DTYPES
from interlingua.formats.registry import CONTAINERS, Container
from interlingua.mappings.schema import FAMILIES
from tests.faults.harness import Scene, Server, tree

WRITTEN = [container.name for container in CONTAINERS.values() if container.writes]
"""Containers that can be written, each of which can be read."""


def model(folder: Path, seed: int = 1) -> Path:
    """Write a model of few tensors, with a head and a tokenizer's settings, which not every system has a place for."""
    folder.parent.mkdir(exist_ok=True)
    write_model(folder, FAMILIES["albert"], ("pooler",), seed, draw=realistic)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}', encoding="utf-8")
    return folder


def arrays(path: Path, seed: int = 1) -> Path:
    """Write three tensors, one of them larger than a block."""
    random = np.random.default_rng(seed)
    shapes = {"large": (300, 1000), "small": (3, 5), "row": (7,)}
    path.parent.mkdir(parents=True, exist_ok=True)
    specs = [TensorSpec(name, DTYPES["float32"], shape) for name, shape in shapes.items()]
    with safetensors.open_writer(path, specs) as writer:
        for spec in specs:
            writer.write(spec.name, random.standard_normal(spec.shape).astype("<f4").tobytes())
        writer.finish()
    return path


def file_of(container: Container, folder: Path) -> Path:
    """Return what arrays in a container are called in a folder."""
    return folder / (f"m{container.suffixes[0]}" if container.form == "file" else "out")


def content_of(container: Container, place: Path) -> Path:
    """Return what is there to be opened of an output in a folder."""
    path = file_of(container, place)
    return path / "model.ckpt" if container.form == "prefix" else path / "model" if path.is_dir() else path


def container_scene(server: Server, root: Path, name: str, *more: str) -> Scene:
    """Return the conversion of arrays into a container; ``more`` are further arguments."""
    container = CONTAINERS[name]
    source, place = arrays(root / "src" / "m.safetensors"), root / "place"
    argv = ["convert", "-q", str(source), str(file_of(container, place)), "--keep-names", "--container", name, *more]
    return Scene(server, argv, source.parent, place).played()


def _plain(server: Server, root: Path, output: str, *options: str) -> Scene:
    source, place = model(root / "src"), root / "place"
    argv = ["convert", "-q", str(source), str(place / output), *options]
    return Scene(server, argv, source, place)


def _over(scene: Scene, root: Path) -> Scene:
    """Have an older output, of another model, be where the new one goes."""
    other = model(root / "other", seed=2)
    older = replace(scene, argv=[*scene.argv[:2], str(other), *scene.argv[3:]]).played()
    (root / "place" / "mine.txt").write_text("mine")
    return replace(scene, argv=[*scene.argv, "--overwrite"], before={**older.after, "mine.txt": b"mine"})


def _archive(server: Server, root: Path) -> Scene:
    folder = model(root / "packed")
    (root / "src").mkdir()
    with tarfile.open(root / "src" / "m.tar.gz", "w:gz") as archive:
        archive.add(folder, "m")
    argv = ["convert", "-q", str(root / "src" / "m.tar.gz"), str(root / "place" / "out"), "--to", "uer"]
    return Scene(server, argv, root / "src", root / "place")


def _back(server: Server, root: Path) -> Scene:
    """Return the conversion back of an output that has a residue."""
    there = _plain(server, root / "there", "src", "--to", "tf1").played()
    assert any("residue" in name for name in there.after), list(there.after)
    source = root / "there" / "place" / "src"
    argv = ["convert", "-q", str(source), str(root / "place" / "out"), "--to", "hf"]
    return Scene(server, argv, source, root / "place")


CONVERSIONS: dict[str, Callable[[Server, Path], Scene]] = {
    "folder": lambda server, root: _plain(server, root, "out", "--to", "tf1"),
    "folder over an older one": lambda server, root: _over(_plain(server, root, "out", "--to", "tf1"), root),
    "file": lambda server, root: _plain(server, root, "m.bin", "--to", "uer"),
    "file over an older one": lambda server, root: _over(_plain(server, root, "m.bin", "--to", "uer"), root),
    "unchecked copy": lambda server, root: _plain(server, root, "out", "--to", "hf", "--check", "none"),
    "shards": lambda server, root: _plain(server, root, "out", "--to", "hf", "--max-shard-size", "2KB"),
    "cast": lambda server, root: _plain(server, root, "out", "--to", "hf", "--dtype", "float16"),
    "from a residue": _back,
    "from an archive": _archive,
}
"""Conversions of models."""


def _reads(*argv: str) -> Callable[[Server, Path], Scene]:
    def made(server: Server, root: Path) -> Scene:
        source = model(root / "src" / "a")
        model(root / "src" / "b")
        paths = {"A": str(source), "B": str(root / "src" / "b")}
        return Scene(server, [paths.get(word, word) for word in argv], root / "src")

    return made


READINGS = {
    "inspect": _reads("inspect", "A"),
    "inspect --json --stats": _reads("inspect", "A", "--json", "--stats"),
    "diff": _reads("diff", "A", "B"),
    "fingerprint": _reads("fingerprint", "A", "B"),
}
"""Commands that only read."""


def build(made: Callable[[Server, Path], Scene], server: Server, root: Path) -> Scene:
    """Return a scene that was played once, so that what it does undisturbed is known."""
    scene = made(server, root)
    if scene.place is not None and not scene.before:
        scene = replace(scene, before=tree(scene.place))
    return scene.played()
