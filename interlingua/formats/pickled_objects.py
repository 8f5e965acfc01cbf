"""What checkpoints pickle beside their tensors: the harmless classes' stand-ins, and paths of names to all of it.

A class is here because training code really saves it (optimiser states, Lightning, fairseq, OmegaConf); one
that is harmless but unknown is refused like any other, for nobody has looked at how its state is to be read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile
from interlingua.formats.pickled_numpy import encode
from interlingua.formats.pickles import (
    MAX_KEY,
    Global,
    InertDict,
    Make,
    Opaque,
    Record,
    Span,
    TextSpan,
    checked_key,
    describe,
    keyed,
    refuse_call,
)

MAX_DEPTH = 64
"""Containers inside one another; a checkpoint has a handful, a trap has millions."""

PATHS_BUDGET = 48 << 20
"""Bytes that the names and values of one pickle's leaves may take, by an estimate that errs upwards."""

_LEAF = 300

Scalar = (str, int, float, type(None))


def _ordered_dict(pairs: object = ()) -> InertDict:
    return InertDict(keyed(pairs))


def _default_dict(_factory: object = None, pairs: object = ()) -> InertDict:
    return InertDict(keyed(pairs))


def _list(items: object = ()) -> list[object]:
    if not isinstance(items, (list, tuple)):
        raise ValueError(f"{describe(items)} is no list")
    return list(items)


def _deque(items: object = (), _length: object = None) -> list[object]:
    return _list(items)


def _set(items: object = ()) -> set[object]:
    found: set[object] = set()
    for item in _list(items):
        found.add(checked_key(item, len(found)))
    return found


def _bytes(data: object = b"", encoding: object = "latin-1") -> object:
    return data if isinstance(data, (bytes, Span)) else encode(data, encoding)


def _complex(real: object = 0.0, imaginary: object = 0.0) -> complex:
    if not (isinstance(real, (int, float)) and isinstance(imaginary, (int, float))):
        raise ValueError("its parts are no numbers")
    return complex(real, imaginary)


def _path(*parts: object) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise ValueError("a path's parts are no texts")
    return "/".join(str(part) for part in parts).replace("//", "/")


def _old_object(kind: object, base: object = None, state: object = None) -> object:
    """Stand for ``copyreg._reconstructor``, through which protocols 0 and 1 make objects of plain classes."""
    if not isinstance(kind, Global) or not isinstance(base, Global) or base.name != "object" or state is not None:
        raise ValueError(f"{describe(kind)} is no plain class")
    return kind.make()


def _record(*args: object) -> Record:
    if args:
        raise ValueError("it takes no arguments")
    return Record()


def opaque(title: str) -> Make:
    """Return what makes stand-ins of which only ``title`` is told."""

    def make(*_: object) -> Opaque:
        return Opaque(title)

    return make


_BUILTINS: dict[str, Make] = {
    "bytearray": _bytes,
    "bytes": _bytes,
    "complex": _complex,
    "dict": _ordered_dict,
    "frozenset": _set,
    "list": _list,
    "object": refuse_call,
    "set": _set,
    "tuple": lambda items=(): tuple(_list(items)),
    **dict.fromkeys(("bool", "float", "int", "str", "long", "unicode"), refuse_call),
}

_NODES = (
    "AnyNode",
    "BooleanNode",
    "BytesNode",
    "EnumNode",
    "FloatNode",
    "IntegerNode",
    "PathNode",
    "StringNode",
)

ALLOWED: dict[tuple[str, str], Make] = {
    **{(module, name): make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
    **{(module, "_reconstructor"): _old_object for module in ("copyreg", "copy_reg")},
    ("collections", "OrderedDict"): _ordered_dict,
    ("collections", "Counter"): _ordered_dict,
    ("collections", "defaultdict"): _default_dict,
    ("collections", "deque"): _deque,
    ("argparse", "Namespace"): _record,
    ("types", "SimpleNamespace"): _record,
    **{
        (module, name): _path
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath", "Path", "PurePath")
    },
    **{("datetime", name): opaque(f"a datetime.{name}") for name in ("date", "datetime", "time", "timedelta")},
    **{
        (module, "AttributeDict"): _ordered_dict
        for module in (
            "pytorch_lightning.utilities.parsing",
            "lightning_fabric.utilities.data",
            "lightning.fabric.utilities.data",
            "lightning.pytorch.utilities.parsing",
        )
    },
    ("typing", "Any"): refuse_call,
    ("omegaconf.dictconfig", "DictConfig"): opaque("an OmegaConf DictConfig"),
    ("omegaconf.listconfig", "ListConfig"): opaque("an OmegaConf ListConfig"),
    **{("omegaconf.base", name): opaque(f"an OmegaConf {name}") for name in ("ContainerMetadata", "Metadata")},
    **{("omegaconf.nodes", name): opaque(f"an OmegaConf {name}") for name in _NODES},
}
"""What stands for the classes that checkpoints hold beside tensors."""


def named_leaves(file: SourceFile, root: object) -> Iterator[tuple[str | None, object]]:
    """Yield each leaf of ``root`` under the keys and indices that lead to it, joined with ".".

    Dicts, lists, tuples and records are walked in their own order; a list or tuple of nothing but numbers,
    texts and None is one leaf, and an empty container is one too. An object that is reached by two
    paths is yielded twice. A root that is itself a leaf has the name None.

    Raises:
        FormatError: a container holds itself, or the paths are too deep or too many. Nobody's checkpoint does
            that; a file of a few bytes can, with more paths than could ever be walked.
    """
    left = PATHS_BUDGET
    inside: list[_Walked] = []
    name: str | None = None
    value = root
    while True:
        left -= _LEAF + 4 * len(name or "") + (16 * len(value) if isinstance(value, (list, tuple)) else 0)
        if left < 0:
            raise FormatError("has a pickle whose objects have too many names", path=file.path)
        entries = _entries(value)
        if entries is None:
            yield name, value
        elif len(inside) == MAX_DEPTH or any(outer.container is value for outer in inside):
            raise FormatError(f"has a pickle that nests too deep, or holds itself, at {name!r:.99}", path=file.path)
        else:
            inside.append(_Walked(value, "" if name is None else f"{name}.", entries))
        entry = None
        while inside and (entry := next(inside[-1].entries, None)) is None:
            inside.pop()
        if entry is None:
            return
        name, value = inside[-1].prefix + _key_name(entry[0]), entry[1]


@dataclass(frozen=True, slots=True)
class _Walked:
    """A container that is being walked: what its entries' names begin with, and those still to come."""

    container: object
    prefix: str
    entries: Iterator[tuple[object, object]]


def _entries(value: object) -> Iterator[tuple[object, object]] | None:
    """Return the entries of a container that is walked into; None for a leaf."""
    if isinstance(value, Record):
        value = value.state
    if isinstance(value, dict):
        return iter(value.items()) if value else None
    if isinstance(value, (list, tuple)) and not all(isinstance(item, Scalar) for item in value):
        return iter(enumerate(value))
    return None


def _key_name(key: object) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bytes):
        return key.decode("utf-8", "backslashreplace")
    return str(key) if isinstance(key, tuple) else describe(key)


def leaf_object(file: SourceFile, value: object) -> object:
    """Return a leaf as what a report can hold: a number, a text, None, a list of those, or ``<what it is>``."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, TextSpan) and value.nbytes <= MAX_KEY:
        try:
            return file.read_at(value.offset, value.nbytes, "a text").decode()
        except UnicodeDecodeError as error:
            raise FormatError("has a text that is not UTF-8", path=file.path, offset=value.offset) from error
    return f"<{describe(value)}>"
