import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.tokens import Position, TokenSealer

SEALER = TokenSealer(b"k" * 32)
IDS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=32, max_size=32)
POSITIONS = st.one_of(
    st.integers(0, 10**9),
    st.tuples(st.integers(-(2**60), 2**60), IDS),
    st.tuples(st.text(max_size=100), IDS),
)


@given(POSITIONS, st.text(max_size=40))
def test_a_position_comes_back(position: Position, query: str) -> None:
    """What was sealed is opened again, under the same query."""
    token = SEALER.seal(query, position, 5)
    assert token.isascii()
    assert SEALER.open(token, query, 10**15) == position


def test_a_token_shows_nothing() -> None:
    """Neither the token nor what it encodes holds the study date it stands for."""
    token = SEALER.seal("q", ("19700101 093000", "0" * 32), 1)
    assert b"19700101" not in base64.urlsafe_b64decode(token)
    assert token != SEALER.seal("q", ("19700101 093000", "0" * 32), 1)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_token_cannot_be_altered(place: int, flip: int) -> None:
    """Any changed byte makes it worthless."""
    raw = bytearray(base64.urlsafe_b64decode(SEALER.seal("q", 7, 1)))
    raw[place % len(raw)] ^= flip
    with pytest.raises(ServiceError, match="not a token"):
        SEALER.open(base64.urlsafe_b64encode(raw).decode(), "q", 1)


@pytest.mark.parametrize("token", ["", "x", "garbage", "AAAA", "A" * 8192, "ümlaut", "a b"])
def test_garbage_is_refused(token: str) -> None:
    """Anything else is refused as invalid, never a crash."""
    with pytest.raises(ServiceError) as refused:
        SEALER.open(token, "q", 1)
    assert refused.value.status == 400


def test_tokens_of_other_queries_and_services_are_refused() -> None:
    """A token is good for its query and its service only."""
    token = SEALER.seal("q", 7, 1)
    with pytest.raises(ServiceError, match="not a token"):
        SEALER.open(token, "other", 1)
    with pytest.raises(ServiceError, match="not a token"):
        TokenSealer(b"z" * 32).open(token, "q", 1)


def test_tokens_expire() -> None:
    """A token is good up to its last microsecond, and not after."""
    sealer = TokenSealer(b"k" * 32, ttl=60.0)
    token = sealer.seal("q", 7, 1)
    assert sealer.open(token, "q", 60_000_001) == 7
    with pytest.raises(ServiceError, match="expired"):
        sealer.open(token, "q", 60_000_002)
