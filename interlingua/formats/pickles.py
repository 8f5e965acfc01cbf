"""Reading a pickle without running it: an interpreter of its opcodes in which every class is a stand-in.

A pickle is a program for a stack machine, and nearly all of its power lies in two opcodes that import a
name and call it. Here a name is only looked up in a table that the caller supplies, so what can be called is
what we wrote ourselves; whatever is not in the table ends the reading. Long byte strings are not read but
located, so that the arrays of a pickle are copied from the file like those of any other container.

Source of the opcodes: python/cpython: Lib/pickletools.py, Lib/pickle.py (protocols 0 to 5).
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from interlingua.errors import FormatError
from interlingua.formats.base import SourceFile

LARGE = 256
"""Bytes from which a byte string or text is located in the file and not read."""

MAX_KEY = 1 << 16
"""Bytes of the longest text that may be a key."""

BUDGET = 128 << 20
"""Bytes that the objects of one pickle may take, by an estimate that errs upwards."""

# Bytes that each thing takes, or a little more: an opcode (with the place of its result on the stack), what a
# call makes, an entry of a dict or set while it grows, an item of a list, a place in the memo, a mark.
_STEP = 24
_CALL = 200
_ENTRY = 120
_ITEM = 16
_MEMO = 100
_MARK = 72

_WINDOW = 1 << 16
_MAX_LINE = 1 << 20
_MAX_NUMBER = 1024
_MAX_NAME = 256
# Hashes of numbers and tuples can be made to collide, those of texts cannot (they are salted): mappings with
# such keys stay small enough for collisions not to matter.
_MAX_UNSALTED = 512
_PLAIN_INTEGER = 1 << 60

Make = Callable[..., object]
Allowed = Mapping[tuple[str, str], Make]


@dataclass(frozen=True, slots=True)
class Span:
    """A byte string left in the file: ``nbytes`` bytes at ``offset`` of it."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class TextSpan:
    """A text left in the file: ``nbytes`` bytes of UTF-8 at ``offset`` of it, not yet checked."""

    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Global:
    """A name that a pickle asked for and that the caller allows; ``make`` is ours and takes its place."""

    module: str
    name: str
    make: Make = field(compare=False, repr=False)


class Inert:
    """What stands in for an object of a class; a pickle can give it a state and nothing else."""

    __slots__ = ()

    def set_state(self, state: object) -> None:
        """Take the state that the pickle gives the object (opcode BUILD).

        Raises:
            ValueError: objects of this class have no such state.
        """
        raise ValueError(f"it takes no state, but was given {describe(state)}")


class InertDict(dict[object, object], Inert):
    """A dict of a class of its own (OrderedDict with its ``_metadata``); attributes are dropped."""

    __slots__ = ()

    def set_state(self, state: object) -> None:
        pass


class Record(Inert):
    """An object known by its attributes alone (argparse.Namespace): ``state`` maps their names to values."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict[object, object] = {}

    def set_state(self, state: object) -> None:
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if isinstance(part, dict):
                self.state.update(part)
            elif part is not None:
                raise ValueError("its state is no dict")


class Opaque(Inert):
    """An object of which only the class is told: ``title`` names it, its state is dropped."""

    __slots__ = ("title",)

    def __init__(self, title: str) -> None:
        self.title = title

    def set_state(self, state: object) -> None:
        pass


def load(
    file: SourceFile,
    start: int,
    stop: int,
    allowed: Allowed,
    persistent: Callable[[object], object] | None = None,
) -> tuple[object, int]:
    """Read the pickle that begins at ``start``; return its object and the offset just after its STOP.

    Containers are Python's own (dict, list, tuple, set, frozenset). Byte strings and texts of ``LARGE`` bytes
    or more are Span and TextSpan, except for keys. Names are Global. Byte strings of Python 2 are str where
    they are UTF-8, else bytes.

    Args:
        file: the file the pickle lies in.
        start: offset of its first opcode.
        stop: offset that it must not reach beyond.
        allowed: what may stand for each (module, name). It is called with the pickle's arguments and
            raises TypeError or ValueError to refuse them. It must never do what the arguments say.
        persistent: turns a persistent id into an object; raises ValueError to refuse it.

    Raises:
        FormatError: the pickle is damaged, needs a name that is not allowed, or takes too much memory.
    """
    file.check(start, max(0, stop - start), "a pickle")
    machine = _Machine(file, start, stop, allowed, persistent)
    return machine.run(), machine.position


def refuse_call(*_: object) -> object:
    """Stand for a name that is a value, or a class that is only mentioned: calling it is an error."""
    raise ValueError("it is nothing to call")


def describe(value: object) -> str:
    """Say in a few words what a value is, never showing more of it than a short text."""
    if value is None or isinstance(value, (bool, float, complex)):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < 1 << 128 else "an enormous integer"
    if isinstance(value, str):
        return ascii(value if len(value) <= 80 else value[:77] + "...")
    if isinstance(value, Global):
        return f"{value.module}.{value.name}"
    if isinstance(value, Opaque):
        return value.title
    if isinstance(value, (Span, bytes)):
        return f"{value.nbytes if isinstance(value, Span) else len(value)} bytes"
    if isinstance(value, TextSpan):
        return f"a text of {value.nbytes} bytes"
    for kind in (dict, list, tuple, set, frozenset):
        if isinstance(value, kind):
            return f"a {kind.__name__} of {len(value)}" if value else f"an empty {kind.__name__}"
    return f"a {type(value).__name__}"


class _Machine:
    """The stack, the memo and the place in the file of one pickle being read."""

    def __init__(
        self,
        file: SourceFile,
        start: int,
        stop: int,
        allowed: Allowed,
        persistent: Callable[[object], object] | None,
    ) -> None:
        self.file = file
        self.position = start
        self.stop = stop
        self.allowed = allowed
        self.persistent = persistent
        self.at = start
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}
        self.left = BUDGET
        self.window = b""
        self.window_at = start

    def run(self) -> object:
        operations = _OPERATIONS
        while True:
            self.at = self.position
            code = self.take(1)
            if code == b".":
                break
            operation = operations.get(code)
            if operation is None:
                raise self.broken(f"has the unknown or unsafe pickle opcode 0x{code.hex()}")
            self.left -= _STEP
            operation(self)
            if self.left < 0:
                raise self.broken("has a pickle that would take too much memory")
        value = self.pop()
        if self.stack or self.below:
            raise self.broken("has a pickle that ends with more than one object")
        return value

    # The file

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        low = self.position - self.window_at
        if not 0 <= low <= low + count <= len(self.window):
            self.need(count)
            self.window_at = self.position
            length = min(max(count, _WINDOW), self.stop - self.position)
            self.window = self.file.read_at(self.position, length, "a pickle")
            low = 0
        self.position += count
        return self.window[low : low + count]

    def need(self, count: int) -> None:
        if count < 0 or count > self.stop - self.position:
            raise self.broken(f"has a pickle that needs {count} bytes where only {self.stop - self.position} are left")

    def line(self, limit: int) -> bytes:
        """Return the bytes up to the next line feed, which is passed over."""
        found = bytearray()
        while True:
            piece = self.take(min(_WINDOW, 64 if not found else len(found), self.stop - self.position) or 1)
            end = piece.find(b"\n")
            if end >= 0:
                self.position -= len(piece) - end - 1
                found += piece[:end]
            else:
                found += piece
            if len(found) > limit:
                raise self.broken("has a line in a pickle that does not end")
            if end >= 0:
                self.charge(len(found))
                return bytes(found)

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    # Errors and limits

    def broken(self, message: str, hint: str | None = None) -> FormatError:
        return FormatError(message, path=self.file.path, offset=self.at, hint=hint)

    def charge(self, nbytes: int) -> None:
        self.left -= nbytes
        if self.left < 0:
            raise self.broken("has a pickle that would take too much memory")

    # The stack

    def keep(self, value: object) -> None:
        """Push a value that was made just now."""
        self.charge(sys.getsizeof(value))
        self.stack.append(value)

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        if not self.stack:
            raise self.broken("has a pickle that takes from an empty stack")
        return self.stack.pop()

    def top(self) -> object:
        if not self.stack:
            raise self.broken("has a pickle that looks at an empty stack")
        return self.stack[-1]

    def mark(self) -> None:
        self.charge(_MARK)
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        if not self.below:
            raise self.broken("has a pickle that goes back to a mark that was never set")
        items = self.stack
        self.stack = self.below.pop()
        self.left += _MARK
        return items

    # Values

    def text(self, nbytes: int) -> None:
        """Push a text of ``nbytes`` bytes of UTF-8."""
        self.need(nbytes)
        if nbytes >= LARGE:
            self.push(TextSpan(self.position, nbytes))
            self.position += nbytes
        else:
            self.push(self.decoded(self.take(nbytes)))

    def decoded(self, data: bytes) -> str:
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise self.broken("has a text in a pickle that is not UTF-8") from error
        self.charge(sys.getsizeof(text))
        return text

    def bytestring(self, nbytes: int) -> None:
        """Push a byte string of ``nbytes`` bytes."""
        self.need(nbytes)
        if nbytes >= LARGE:
            self.push(Span(self.position, nbytes))
            self.position += nbytes
        else:
            self.keep(self.take(nbytes))

    def old_string(self, nbytes: int) -> None:
        """Push a string of Python 2, which had one type for text and for bytes."""
        self.bytestring(nbytes)
        if isinstance(self.stack[-1], bytes):
            self.stack[-1] = _text_or_bytes(self.stack[-1])

    def integer(self, nbytes: int) -> None:
        """Push a two's complement integer of ``nbytes`` bytes."""
        if nbytes > _MAX_NUMBER:
            raise self.broken(f"has an integer of {nbytes} bytes in a pickle")
        self.keep(int.from_bytes(self.take(nbytes), "little", signed=True))

    def natural(self, nbytes: int) -> None:
        """Push a natural number of ``nbytes`` bytes."""
        self.keep(self.unsigned(nbytes))

    def written_integer(self) -> int:
        line = self.line(_MAX_NUMBER)
        if not re.fullmatch(rb"[+-]?[0-9]+L?", line):
            raise self.broken("has a damaged integer in a pickle")
        return int(line.rstrip(b"L"))

    def key(self, value: object, size: int) -> object:
        """Return ``value`` as a key for a mapping or set that has ``size`` entries."""
        self.charge(_ENTRY)
        if type(value) is str:
            return value
        if type(value) is TextSpan and value.nbytes <= MAX_KEY:
            return self.decoded(self.file.read_at(value.offset, value.nbytes, "a key"))
        try:
            return checked_key(value, size)
        except ValueError as error:
            raise self.broken(f"has a pickle with a key that is refused: {error}") from error

    # Names

    def find(self, module: object, name: object) -> None:
        """Push what the caller allows for a name."""
        if not (isinstance(module, str) and isinstance(name, str)):
            raise self.broken("has a pickle that asks for a name that is no text")
        make = self.allowed.get((module, name))
        if make is None:
            asked = ascii(f"{module}.{name}"[: 2 * _MAX_NAME])[1:-1]
            raise self.broken(
                f"asks for {asked}, which is not among the names that a checkpoint needs; it was not run",
                "If you trust the file, load it where it was made and save only its state dict (tensors by name).",
            )
        self.keep(Global(module, name, make))

    def named(self) -> tuple[str, str]:
        module, name = self.line(_MAX_NAME), self.line(_MAX_NAME)
        return self.decoded(module), self.decoded(name)

    def call(self, function: object, args: object) -> None:
        """Push what our stand-in for a name makes of its arguments."""
        if not isinstance(function, Global):
            raise self.broken(f"has a pickle that calls {describe(function)}; it was not run")
        if not isinstance(args, tuple):
            raise self.broken(f"has a pickle that calls {describe(function)} with {describe(args)} for arguments")
        self.charge(_CALL + sum(_copying(arg) for arg in args))
        try:
            self.push(function.make(*args))
        except (TypeError, ValueError, OverflowError) as error:
            raise self.broken(f"calls {describe(function)} in a way that is refused: {error}") from error

    def resolve(self, identity: object) -> None:
        if self.persistent is None:
            raise self.broken("has a pickle that refers to an object outside of it")
        self.charge(_CALL)
        try:
            self.push(self.persistent(identity))
        except (TypeError, ValueError, OverflowError) as error:
            raise self.broken(f"refers to an object that is refused: {error}") from error


def checked_key(value: object, size: int) -> object:
    """Return ``value`` if it may be a key of a mapping that has ``size`` entries.

    Raises:
        ValueError: hashing it could fail, not end, or be made slow.
    """
    if isinstance(value, (str, bytes, bool, Global)) or value is None:
        return value
    if isinstance(value, int) and -_PLAIN_INTEGER < value < _PLAIN_INTEGER:
        return value
    scalars = value if isinstance(value, tuple) else (value,)
    if len(scalars) > 16 or not all(item is None or isinstance(item, (str, bytes, int, float)) for item in scalars):
        raise ValueError(f"{describe(value)} cannot be one")
    if size >= _MAX_UNSALTED:
        raise ValueError(f"there are too many like {describe(value)}")
    return value


def keyed(pairs: object) -> dict[object, object]:
    """Return a dict of ``pairs`` (a dict, or a list or tuple of pairs), as a class's arguments give them.

    Raises:
        ValueError: they are no pairs, or a key is refused.
    """
    if isinstance(pairs, dict):
        return dict(pairs)
    if not isinstance(pairs, (list, tuple)):
        raise ValueError(f"{describe(pairs)} is no list of pairs")
    found: dict[object, object] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"{describe(pair)} is no pair")
        found[checked_key(pair[0], len(found))] = pair[1]
    return found


def _copying(value: object) -> int:
    """Return what a copy of ``value`` may take: stand-ins may keep one of each of their arguments."""
    if isinstance(value, (str, bytes)):
        return 4 * len(value)
    return _ENTRY * len(value) if isinstance(value, (dict, list, tuple, set, frozenset)) else 0


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


# One function an opcode, or an entry of the table below where an expression will do.


def _proto(m: _Machine) -> None:
    version = m.unsigned(1)
    if version > 5:
        raise m.broken(f"has a pickle of protocol {version}; protocols 0 to 5 are known")


def _frame(m: _Machine) -> None:
    # A frame only tells how much to prefetch, but one that reaches beyond the pickle is a lie.
    m.need(m.unsigned(8))


def _int(m: _Machine) -> None:
    start = m.position
    if (line := m.line(_MAX_NUMBER)) in (b"00", b"01"):
        m.push(line == b"01")
        return
    m.position = start
    m.push(m.written_integer())


def _float(m: _Machine) -> None:
    line = m.line(_MAX_NUMBER)
    try:
        m.keep(float(line))
    except ValueError as error:
        raise m.broken("has a damaged number in a pickle") from error


def _binfloat(m: _Machine) -> None:
    m.keep(struct.unpack(">d", m.take(8))[0])


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([0-7]{1,3})|(.))", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


def _unescaped(found: re.Match[bytes]) -> bytes:
    digits, octal, char = found.groups()
    if digits is not None:
        return bytes([int(digits, 16)])
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    return _ESCAPED.get(char, char)


def _string(m: _Machine) -> None:
    line = m.line(_MAX_LINE)
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise m.broken("has a damaged string in a pickle")
    m.keep(_text_or_bytes(_ESCAPE.sub(_unescaped, line[1:-1])))


def _unicode(m: _Machine) -> None:
    line = m.line(_MAX_LINE)
    try:
        text = line.decode("raw-unicode-escape")
        text.encode()
    except UnicodeError as error:
        raise m.broken("has a damaged text in a pickle") from error
    m.keep(text)


def _bin_string(m: _Machine) -> None:
    m.old_string(m.unsigned(4))


def _tuple_of(count: int) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        items = [m.pop() for _ in range(count)]
        m.keep(tuple(reversed(items)))

    return operation


def _pushing(make: Callable[[], object]) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        m.keep(make())

    return operation


def _collected(make: Callable[[list[object]], object]) -> Callable[[_Machine], None]:
    def operation(m: _Machine) -> None:
        items = m.since_mark()
        m.keep(make(items))

    return operation


def _dict(m: _Machine) -> None:
    items = m.since_mark()
    found: dict[object, object] = {}
    m.keep(found)
    _set_all(m, found, items)


def _set_all(m: _Machine, target: dict[object, object], items: list[object]) -> None:
    if len(items) % 2:
        raise m.broken("has a pickle in which a key has no value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[m.key(key, len(target))] = value


def _set_items(m: _Machine, items: list[object]) -> None:
    target = m.top()
    if not isinstance(target, dict):
        raise m.broken(f"has a pickle that sets items of {describe(target)}")
    _set_all(m, target, items)


def _set_item(m: _Machine) -> None:
    value, key = m.pop(), m.pop()
    _set_items(m, [key, value])


def _append_all(m: _Machine, items: list[object]) -> None:
    target = m.top()
    if not isinstance(target, list):
        raise m.broken(f"has a pickle that appends to {describe(target)}")
    m.charge(_ITEM * len(items))
    target.extend(items)


def _add_all(m: _Machine, target: set[object], items: Iterable[object]) -> None:
    for item in items:
        target.add(m.key(item, len(target)))


def _add_items(m: _Machine) -> None:
    items, target = m.since_mark(), m.top()
    if not isinstance(target, set):
        raise m.broken(f"has a pickle that adds to {describe(target)}")
    _add_all(m, target, items)


def _frozenset(m: _Machine) -> None:
    found: set[object] = set()
    _add_all(m, found, m.since_mark())
    m.keep(frozenset(found))


def _pop(m: _Machine) -> None:
    if m.stack:
        m.stack.pop()
    else:
        m.since_mark()


def _put(m: _Machine, index: int) -> None:
    m.charge(_MEMO)
    m.memo[index] = m.top()


def _put_written(m: _Machine) -> None:
    index = m.written_integer()
    if index < 0:
        raise m.broken("has a negative place in a pickle's memo")
    _put(m, index)


def _get(m: _Machine, index: int) -> None:
    if index not in m.memo:
        raise m.broken(f"has a pickle that refers to object {describe(index)}, which it never made")
    m.push(m.memo[index])


def _stack_global(m: _Machine) -> None:
    name, module = m.pop(), m.pop()
    m.find(module, name)


def _inst(m: _Machine) -> None:
    module, name = m.named()
    args = tuple(m.since_mark())
    m.find(module, name)
    m.call(m.pop(), args)


def _obj(m: _Machine) -> None:
    function, *args = m.since_mark() or [None]
    m.call(function, tuple(args))


def _reduce(m: _Machine) -> None:
    args, function = m.pop(), m.pop()
    m.call(function, args)


def _newobj_ex(m: _Machine) -> None:
    names, args, function = m.pop(), m.pop(), m.pop()
    if names != {}:
        raise m.broken(f"has a pickle that makes {describe(function)} with arguments by name")
    m.call(function, args)


def _build(m: _Machine) -> None:
    state, target = m.pop(), m.top()
    if not isinstance(target, Inert):
        raise m.broken(f"has a pickle that changes the state of {describe(target)}; it was not run")
    m.charge(_CALL + sum(_copying(part) for part in (state if isinstance(state, tuple) else (state,))))
    try:
        target.set_state(state)
    except (TypeError, ValueError, OverflowError) as error:
        raise m.broken(f"gives {describe(target)} a state that is refused: {error}") from error


def _persistent_line(m: _Machine) -> None:
    m.resolve(m.decoded(m.line(_MAX_LINE)))


_OPERATIONS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _proto,
    b"\x95": _frame,
    b"(": _Machine.mark,
    b"0": _pop,
    b"1": lambda m: (m.since_mark(), None)[1],
    b"2": lambda m: m.push(m.top()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": _int,
    b"L": lambda m: m.push(m.written_integer()),
    b"J": lambda m: m.integer(4),
    b"K": lambda m: m.push(m.unsigned(1)),
    b"M": lambda m: m.natural(2),
    b"\x8a": lambda m: m.integer(m.unsigned(1)),
    b"\x8b": lambda m: m.integer(m.unsigned(4)),
    b"F": _float,
    b"G": _binfloat,
    b"S": _string,
    b"T": _bin_string,
    b"U": lambda m: m.old_string(m.unsigned(1)),
    b"V": _unicode,
    b"X": lambda m: m.text(m.unsigned(4)),
    b"\x8c": lambda m: m.text(m.unsigned(1)),
    b"\x8d": lambda m: m.text(m.unsigned(8)),
    b"B": lambda m: m.bytestring(m.unsigned(4)),
    b"C": lambda m: m.bytestring(m.unsigned(1)),
    b"\x8e": lambda m: m.bytestring(m.unsigned(8)),
    b"\x96": lambda m: m.bytestring(m.unsigned(8)),
    b")": _pushing(tuple),
    b"\x85": _tuple_of(1),
    b"\x86": _tuple_of(2),
    b"\x87": _tuple_of(3),
    b"t": _collected(tuple),
    b"]": _pushing(list),
    b"l": _collected(list),
    b"a": lambda m: _append_all(m, [m.pop()]),
    b"e": lambda m: _append_all(m, m.since_mark()),
    b"}": _pushing(dict),
    b"d": _dict,
    b"s": _set_item,
    b"u": lambda m: _set_items(m, m.since_mark()),
    b"\x8f": _pushing(set),
    b"\x90": _add_items,
    b"\x91": _frozenset,
    b"p": _put_written,
    b"q": lambda m: _put(m, m.unsigned(1)),
    b"r": lambda m: _put(m, m.unsigned(4)),
    b"\x94": lambda m: _put(m, len(m.memo)),
    b"g": lambda m: _get(m, m.written_integer()),
    b"h": lambda m: _get(m, m.unsigned(1)),
    b"j": lambda m: _get(m, m.unsigned(4)),
    b"c": lambda m: m.find(*m.named()),
    b"\x93": _stack_global,
    b"i": _inst,
    b"o": _obj,
    b"R": _reduce,
    b"\x81": _reduce,
    b"\x92": _newobj_ex,
    b"b": _build,
    b"P": _persistent_line,
    b"Q": lambda m: m.resolve(m.pop()),
}
