"""Arithmetic on CRC-32C values alone: TensorFlow's mask, and the checksum of joined data from those of its parts.

Source: tensorflow/tensorflow: tensorflow/core/lib/hash/crc32c.h (mask). Joining follows from a CRC being the
remainder of a division of polynomials over GF(2): appending n bytes multiplies by x**(8 n).
"""

from __future__ import annotations

_MASK_DELTA = 0xA282EAD8
_WORD = 0xFFFFFFFF
_POLYNOMIAL = 0x82F63B78
"""The Castagnoli polynomial, lowest power in the highest bit, as the checksum itself is kept."""

_ONE = 1 << 31
_X8 = 1 << 23


def mask(crc: int) -> int:
    """Return the form in which TensorFlow stores a CRC-32C, so that data holding checksums can be checked itself."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & _WORD


def unmask(masked: int) -> int:
    """Return the CRC-32C that ``mask`` was given."""
    rotated = (masked - _MASK_DELTA) & _WORD
    return (rotated >> 17 | rotated << 15) & _WORD


def shift(crc: int, nbytes: int) -> int:
    """Return what a CRC-32C contributes to the checksum of data in which ``nbytes`` more bytes follow."""
    power = _X8
    while nbytes:
        if nbytes & 1:
            crc = _multiply(crc, power)
        power = _multiply(power, power)
        nbytes >>= 1
    return crc


def join(first: int, second: int, second_nbytes: int) -> int:
    """Return the CRC-32C of two runs of bytes in a row from the CRC-32C of each, and the length of the second."""
    return shift(first, second_nbytes) ^ second


def _multiply(a: int, b: int) -> int:
    """Multiply two polynomials modulo Castagnoli's."""
    product = 0
    bit = _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
        bit >>= 1
    return product
