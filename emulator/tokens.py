"""Opaque page tokens: where a page ended, sealed so that nobody can read, make or move one.

A position may hold a study date, which is patients' data, so the content is encrypted, not just encoded:
XOR with a keystream drawn from a keyed hash of a random nonce, and a keyed tag over all of it
(encrypt-then-MAC with BLAKE2, SHAKE-256). The key lives as long as the service.
"""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

import orjson

from ahi_catalog.emulator.errors import expired_token, invalid_token
from ahi_catalog.emulator.instants import MICROS

_NONCE = 12
_TAG = 16

# The key and id of the last row of a page, or a count of rows from the front.
Position = tuple[int | str, str] | int


@dataclass(frozen=True, slots=True)
class TokenSealer:
    """Seals and opens page tokens under one key.

    Args:
        key: 32 secret bytes.
        ttl: Seconds for which a token is good; None for ever.
    """

    key: bytes
    ttl: float | None = None

    def seal(self, query: str, position: Position, now: int) -> str:
        """A URL-safe token for the page after `position` of the query with this fingerprint.

        Args:
            query: The query's fingerprint.
            position: Where the page ended.
            now: The service's time, epoch microseconds.
        """
        plain = orjson.dumps([query, now, position])
        nonce = secrets.token_bytes(_NONCE)
        sealed = nonce + self._mask(nonce, plain)
        return base64.urlsafe_b64encode(sealed + self._tag(sealed)).decode()

    def open(self, token: str, query: str, now: int) -> Position:
        """The position in a token.

        Raises:
            ServiceError: ValidationException, where it is not ours, of another query, or expired.
        """
        try:
            raw = base64.b64decode(token, altchars=b"-_", validate=True)
        except ValueError:
            raise invalid_token() from None
        sealed, tag = raw[:-_TAG], raw[-_TAG:]
        if len(sealed) <= _NONCE or not hmac.compare_digest(tag, self._tag(sealed)):
            raise invalid_token()
        its_query, issued, position = orjson.loads(self._mask(sealed[:_NONCE], sealed[_NONCE:]))
        if its_query != query:
            raise invalid_token()
        if self.ttl is not None and now - issued > self.ttl * MICROS:
            raise expired_token()
        return tuple(position) if isinstance(position, list) else position

    def _mask(self, nonce: bytes, text: bytes) -> bytes:
        stream = hashlib.shake_256(self.key + nonce).digest(len(text))
        return (int.from_bytes(text, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(text), "big")

    def _tag(self, sealed: bytes) -> bytes:
        return hashlib.blake2b(sealed, key=self.key, digest_size=_TAG).digest()
