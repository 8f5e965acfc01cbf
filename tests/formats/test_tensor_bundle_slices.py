"""Where the slices of a partitioned variable lie."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from interlingua.formats.tensor_bundle_slices import FULL, Placement, Slice, gather, tiles

Boxes = list[Slice]


def cut(shape: tuple[int, ...], times: int, rng: random.Random) -> Boxes:
    """Cut a tensor ``times`` times, each time one of the boxes along one axis."""
    boxes = [Slice((0,) * len(shape), shape)]
    for _ in range(times):
        number = rng.randrange(len(boxes))
        box = boxes[number]
        axes = [axis for axis, n in enumerate(box.lengths) if n > 1]
        if not axes:
            continue
        axis = rng.choice(axes)
        length = rng.randrange(1, box.lengths[axis])
        boxes[number] = Slice(box.starts, replaced(box.lengths, axis, length))
        boxes.append(
            Slice(
                replaced(box.starts, axis, box.starts[axis] + length),
                replaced(box.lengths, axis, box.lengths[axis] - length),
            )
        )
    rng.shuffle(boxes)
    return boxes


def replaced(values: tuple[int, ...], at: int, value: int) -> tuple[int, ...]:
    return (*values[:at], value, *values[at + 1 :])


def counts(boxes: Boxes, shape: tuple[int, ...]) -> np.ndarray:
    """How many boxes each element is in."""
    seen = np.zeros(shape, int)
    for box in boxes:
        seen[tuple(slice(s, s + n) for s, n in zip(box.starts, box.lengths, strict=True))] += 1
    return seen


SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@given(SHAPES, st.integers(0, 6), st.integers(0, 2**32))
def test_boxes_tile_where_every_element_is_in_one(shape: tuple[int, ...], times: int, seed: int) -> None:
    rng = random.Random(seed)
    boxes = cut(shape, times, rng)
    assert tiles(boxes, shape)
    number = rng.randrange(len(boxes))
    axis = rng.randrange(len(shape))
    box = boxes[number]
    changed = (
        Slice(replaced(box.starts, axis, box.starts[axis] + 1), box.lengths),
        Slice(box.starts, replaced(box.lengths, axis, box.lengths[axis] + 1)),
        Slice(box.starts, replaced(box.lengths, axis, box.lengths[axis] - 1)),
    )
    for other in (*([*boxes[:number], new, *boxes[number + 1 :]] for new in changed), [*boxes, box], boxes[:-1]):
        inside = all(
            n > 0 and s + n <= top for b in other for s, n, top in zip(b.starts, b.lengths, shape, strict=True)
        )
        if inside:
            assert tiles(other, shape) is bool((counts(other, shape) == 1).all())


def test_equal_volumes_are_no_tiling() -> None:
    shape = (4, 4)
    halves = [Slice((0, 0), (2, 4)), Slice((2, 0), (2, 4))]
    assert tiles(halves, shape)
    assert not tiles([halves[0], halves[0]], shape)
    assert not tiles([halves[0], Slice((0, 2), (4, 2))], shape)


def test_more_cut_axes_than_anybody_cuts_are_refused_at_once() -> None:
    shape = (2,) * 20
    boxes = [Slice((0,) * 20, (1,) * 20), Slice((1,) * 20, (1,) * 20)]
    assert not tiles(boxes * 1000, shape)


@given(SHAPES, st.integers(0, 6), st.sampled_from((1, 2, 3, 4, 8, 16)), st.integers(0, 2**32))
def test_slices_are_gathered_from_any_byte_to_any_byte(
    shape: tuple[int, ...], times: int, itemsize: int, seed: int
) -> None:
    rng = random.Random(seed)
    whole = np.frombuffer(rng.randbytes(itemsize * math.prod(shape)), f"V{itemsize}").reshape(shape)
    parts = []
    reads: list[list[tuple[int, int]]] = []
    for box in cut(shape, times, rng):
        data = whole[tuple(slice(s, s + n) for s, n in zip(box.starts, box.lengths, strict=True))].tobytes()
        seen: list[tuple[int, int]] = []

        def read(start: int, view: memoryview, data: bytes = data, seen: list[tuple[int, int]] = seen) -> None:
            seen.append((start, start + len(view)))
            view[:] = data[start : start + len(view)]

        placement = Placement(box, shape, itemsize)
        assert placement.nbytes == len(data)
        parts.append((placement, read))
        reads.append(seen)
    start = rng.randrange(whole.nbytes + 1)
    end = rng.randint(start, whole.nbytes)
    out = bytearray(end - start)
    gather(parts, start, memoryview(out))
    assert out == whole.tobytes()[start:end]
    for seen in reads:
        seen.clear()
    at = 0
    while at < whole.nbytes:
        step = min(rng.randint(1, 40), whole.nbytes - at)
        gather(parts, at, memoryview(bytearray(step)))
        at += step
    for (placement, _), seen in zip(parts, reads, strict=True):
        assert [begin for begin, _ in seen] == [0, *(stop for _, stop in seen)][:-1]
        assert seen[-1][1] == placement.nbytes


def test_large_tensors_are_gathered_over_many_blocks() -> None:
    whole = np.arange(3_000 * 300, dtype=np.float32).reshape(3_000, 300)
    columns = ((0, 7), (7, 200), (207, 93))
    parts = []
    for start, length in columns:
        data = np.ascontiguousarray(whole[:, start : start + length]).tobytes()

        def read(at: int, view: memoryview, data: bytes = data) -> None:
            view[:] = data[at : at + len(view)]

        parts.append((Placement(Slice((0, start), (3_000, length)), whole.shape, 4), read))
    out = bytearray(whole.nbytes)
    gather(parts, 0, memoryview(out))
    assert out == whole.tobytes()


def test_keys_sort_as_their_slices_do() -> None:
    """OrderedCode's promise: numbers in order have encodings in order, whatever their length."""
    numbers = sorted({sign * (1 << bits) + off for bits in range(62) for sign in (1, -1) for off in (-1, 0, 1)})
    keys = [Slice((number,), (FULL,)).key("x") for number in numbers]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)
    names = ["", "\0", "\0a", "\x01", "a", "a\0", "aa", "b"]
    keys = [Slice((0,), (1,)).key(name) for name in names]
    assert keys == sorted(keys)


def test_a_box_must_lie_inside() -> None:
    assert Slice((0, 1), (FULL, 2)).within((4, 3)) == Slice((0, 1), (4, 2))
    assert Slice((3, 0), (1, 3)).within((4, 3)) == Slice((3, 0), (1, 3))
    assert Slice((), ()).within(()) == Slice((), ())
    for starts in ((-1, 0), (0, 1), (4, 0), (2**62, 0), (1, 0)):
        for lengths in ((FULL, 3), (2**62, 3), (0, 3), (1, -2)):
            assert Slice(starts, lengths).within((4, 3)) is None
    for starts in ((), (0,), (0, 0, 0)):
        assert Slice(starts, (FULL,) * len(starts)).within((4, 3)) is None
