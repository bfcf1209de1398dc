"""What search shows against what there is, under any run of changes."""

from hypothesis import given
from hypothesis import strategies as st

from ahi_catalog.emulator.errors import ServiceError
from ahi_catalog.emulator.records import Record
from ahi_catalog.emulator.store import Datastore, lag_micros

# What is done, to which image set, how long after the change before, with an updatedAt how long ago.
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "delete"]),
        st.integers(0, 3),
        st.integers(0, 40),
        st.integers(0, 100),
    ),
    max_size=40,
)


def shown(store: Datastore) -> dict[str, Record]:
    found = {name: record for _, name, record in store.index.between("createdAt", None, None)}
    by_update = {name: record for _, name, record in store.index.between("updatedAt", None, None)}
    assert found == by_update
    assert len(found) == len(store.index)
    return found


@given(CHANGES, st.sampled_from([0, 1, 30, 1000]))
def test_search_catches_up_and_never_goes_back(changes: list[tuple[str, int, int, int]], lag: int) -> None:
    """Search shows one version an image set at most, never an older one later, and in the end what there is."""
    store = Datastore("0" * 32, "store", 0, lag)
    now, seen = 1000, dict.fromkeys(range(4), 0)
    for kind, number, later, ago in changes:
        now += later
        name = f"{number:032}"
        try:
            if kind == "insert":
                store.insert([{"imageSetId": name, "version": now, "createdAt": now - ago}], now)
            elif kind == "update":
                store.update(name, {"version": now}, now - ago, now, new_version=True)
            else:
                store.delete(name, now)
        except (ServiceError, ValueError):
            continue
        store.settle(now)
        for found, record in shown(store).items():
            version = record.summary()["version"]
            assert version >= seen[int(found)]
            seen[int(found)] = version
        if lag == 0:
            assert shown(store) == store.current
    store.settle(now + lag)
    assert shown(store) == store.current
    assert not store.current.keys() & store.deleted.keys()


def test_a_refused_insert_changes_nothing() -> None:
    """One bad summary, or one taken id, and none of the batch is there."""
    store = Datastore("0" * 32, "store", 0)
    good = [{"imageSetId": f"{number:032}", "createdAt": 1} for number in range(3)]
    for bad in ({"imageSetId": "x"}, good[0]):
        try:
            store.insert([*good, bad], 1)
        except ValueError:
            assert shown(store) == store.current == {}
        else:
            raise AssertionError("it was taken")


def test_history_is_visible_at_once() -> None:
    """With a lag, a row created long ago shows now; one created now waits; the future counts as now."""
    store = Datastore("0" * 32, "store", 0, lag_micros(1.5))
    assert store.lag == 1_500_000
    now = 10_000_000
    times = {"1": 0, "2": now, "3": 10 * now}
    store.insert([{"imageSetId": name * 32, "createdAt": at} for name, at in times.items()], now)
    store.settle(now)
    assert list(shown(store)) == ["1" * 32]
    store.settle(now + store.lag)
    assert len(shown(store)) == 3
