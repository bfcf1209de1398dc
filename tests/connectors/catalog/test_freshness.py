"""The sketch of delays: as right as it says, whatever is counted, and as large."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.connectors.catalog.freshness import Freshness

delays = st.lists(st.floats(0.1, 1e8), min_size=1, max_size=200)
shares = st.sampled_from([0.5, 0.95, 0.99, 1.0])


def sketch(seconds: list[float]) -> Freshness:
    made = Freshness()
    made.add(seconds)
    return made


@given(delays, shares)
def test_a_percentile_is_right_to_a_twentieth(seconds: list[float], share: float) -> None:
    """It lies within half a bin of the delay that so many rows keep within."""
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    told = sketch(seconds).quantile(share)
    assert told is not None
    assert abs(told - exact) <= 0.051 * exact


@given(delays, delays)
def test_sketches_add_up_and_are_read_as_they_are_written(one: list[float], other: list[float]) -> None:
    """Counting together or apart is the same, by way of a file too."""
    merged = sketch(one)
    merged.merge(Freshness.parse(json.loads(json.dumps(sketch(other).document()))))
    assert merged.document() == sketch([*one, *other]).document()


@given(st.lists(st.floats(-1e12, 1e12), max_size=300))
def test_a_sketch_has_a_fixed_size(seconds: list[float]) -> None:
    """Clocks that differ, and delays of centuries, count in the first and the last bin."""
    document = sketch(seconds).document()
    assert document["rows"] == len(seconds)
    assert all(0 <= int(number) <= 240 for number in document["bins"])


@pytest.mark.parametrize("document", [{}, {"bins": 1}, {"bins": {"a": 1}}, {"bins": {"1": None}}, [], "x"])
def test_what_is_no_sketch_is_refused(document: object) -> None:
    """A damaged run report is told as such; one of an earlier version has no sketch."""
    with pytest.raises(ValueError, match=r"."):
        Freshness.parse(document)
    assert len(Freshness.parse(None)) == 0
