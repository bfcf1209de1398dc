"""Pseudonyms by HMAC-SHA-256 (RFC 2104): the same value and key give the same pseudonym, in every run. Pure.

Each use has a key of its own, derived from the catalog's by HMAC over the use's name, so that equal texts in two
columns cannot be told to be equal. Nothing is done twice for equal values: columns are dictionary-encoded first.

Blanks and NULs around a text pad it (DICOM PS3.5 section 6.2) and are no part of it. A text that is blank names nobody:
it stays what it is.
"""

import hmac
from collections.abc import Callable, Iterable
from typing import Any, Final

import pyarrow as pa

LEAST_KEY_BYTES: Final = 32
_LEAST_DISTINCT_BYTES: Final = 8

_DOMAIN: Final = "ahi-catalog phi 1 "
_HASH_BYTES: Final = 16
"""128 bits, half of the hash, the least that RFC 2104 section 5 advises."""
_MOST_DAYS: Final = 365
_PADDING: Final = b" \0"


class PhiKey:
    """The key of a catalog's pseudonyms; its repr and str do not show it.

    Args:
        key: At least 32 bytes, random.

    Raises:
        ValueError: It is too short, or plainly not random.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) < LEAST_KEY_BYTES or len(set(key)) < _LEAST_DISTINCT_BYTES:
            raise ValueError(
                f"a PHI key is at least {LEAST_KEY_BYTES} random bytes; make one with: openssl rand -hex 32"
            )
        self._key = key

    def __repr__(self) -> str:
        return "PhiKey(…)"

    def __reduce__(self) -> Any:
        raise TypeError("a PHI key is not written anywhere")

    def derive(self, use: str) -> bytes:
        """The key of one use."""
        return _mac(self._key, (_DOMAIN + use).encode())

    @property
    def check(self) -> str:
        """A value that tells keys apart and lets nobody find one."""
        return self.derive("check")[:8].hex()


def hashes(texts: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """32 hexadecimal digits for each text that is not blank."""
    return _by_value(texts, lambda value: _mac(key, value)[:_HASH_BYTES].hex(), pa.string())


def uids(texts: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """A UID derived from a UUID for each text: ``2.25.`` and its decimal value (DICOM PS3.5 section B.2).

    The UUID is of version 8, whose bits are the maker's own (RFC 9562 section 5.8).
    """
    return _by_value(texts, lambda value: _uid(_mac(key, value)), pa.string())


def day_offsets(patients: pa.ChunkedArray, key: bytes) -> pa.ChunkedArray:
    """Whole days from 1 to 365 for each patient, int32; null where there is no patient: null or blanks."""
    return _by_value(patients, lambda patient: int.from_bytes(_mac(key, patient)[:8]) % _MOST_DAYS + 1, pa.int32())


def _by_value(texts: pa.ChunkedArray, make: Callable[[bytes], Any], type_: pa.DataType) -> pa.ChunkedArray:
    """What is made of each text without its padding, once for each distinct one.

    Null stays null. A blank stays what it is where texts are made, and is null where numbers are.
    """
    is_text = pa.types.is_string(type_)

    def made_of(value: bytes) -> Any:
        unpadded = value.strip(_PADDING)
        return make(unpadded) if unpadded else value if is_text else None

    encoded = texts.combine_chunks().dictionary_encode()
    distinct: Iterable[bytes] = encoded.dictionary.cast(pa.binary()).to_pylist()
    made = pa.array([made_of(value) for value in distinct], type_)
    return pa.chunked_array([made.take(encoded.indices)])


def _uid(mac: bytes) -> str:
    bits = int.from_bytes(mac[:16])
    bits = bits & ~(0xF << 76) | (0x8 << 76)  # version 8
    bits = bits & ~(0x3 << 62) | (0x2 << 62)  # variant 2
    return f"2.25.{bits}"


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")
