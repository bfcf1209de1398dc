"""The controls, as another process uses them."""

from typing import Any

import msgspec
import pytest

TIME = "2026-05-01T10:00:00.000001+00:00"


def test_image_sets_are_made_changed_and_deleted(running: Any) -> None:
    """A data store and its rows live their whole life over HTTP, and search sees each step."""
    made = running.http("POST", "/_control/datastores", {"name": "remote", "createdAt": 0, "datastoreId": "a" * 32})
    assert made.json == {"datastoreId": "a" * 32}
    base = f"/_control/datastores/{'a' * 32}/image-sets"
    row = {"imageSetId": "1" * 32, "createdAt": TIME, "updatedAt": 1777629600.000001, "DICOMTags": {}}
    assert running.http("POST", base, [row]).json == {"inserted": 1}
    changes = {"changes": {"DICOMTags": {"DICOMStudyId": "7"}, "lastAccessedAt": TIME}, "updatedAt": TIME}
    changed = running.http("PATCH", f"{base}/{'1' * 32}", changes)
    assert (changed.status, changed.json["version"]) == (200, 2)
    dump = running.http("GET", base)
    assert [msgspec.json.decode(line) for line in dump.body.splitlines()] == running.service.rows("a" * 32)
    found = running.client.search_image_sets(datastoreId="a" * 32)["imageSetsMetadataSummaries"]
    assert found[0]["DICOMTags"] == {"DICOMStudyId": "7"}
    assert found[0]["createdAt"] == found[0]["updatedAt"] == found[0]["lastAccessedAt"]
    same_version = running.http("PATCH", f"{base}/{'1' * 32}", {"changes": {}, "newVersion": False})
    assert same_version.json == changed.json
    assert running.http("DELETE", f"{base}/{'1' * 32}").status == 200
    assert running.http("GET", base).body == b""


def test_faults_and_counters(running: Any) -> None:
    """Faults are ordered, counted and cleared; counters are read and reset."""
    order = {"kind": "throttle", "next": 2, "operation": "SearchImageSets"}
    assert running.http("POST", "/_control/faults", order).json == {"waiting": 2}
    assert running.raw_search().status == 429
    assert running.http("GET", "/_control/counters").json == {
        "requests": {"SearchImageSets": 1},
        "throttled": 1,
        "faults": {"throttle": 1},
    }
    running.http("DELETE", "/_control/faults")
    assert running.raw_search().status == 200
    running.http("DELETE", "/_control/counters")
    assert running.http("GET", "/_control/counters").json == {"requests": {}, "throttled": 0, "faults": {}}


def test_the_clock_is_set(running: Any) -> None:
    """Offset, advance, freeze at a time, freeze now, and thaw."""

    def clock(**body: Any) -> Any:
        return running.http("POST", "/_control/clock", body).json

    assert clock(offset=3600) == {"now": "2026-05-01T13:00:00+00:00", "frozen": False}
    assert clock(advance=60)["now"] == "2026-05-01T13:01:00+00:00"
    assert clock(freeze=TIME) == {"now": TIME, "frozen": True}
    assert clock(advance=1)["now"] == "2026-05-01T10:00:01.000001+00:00"
    assert clock(freeze=False) == {"now": "2026-05-01T10:00:01.000001+00:00", "frozen": False}
    assert clock(freeze=True)["frozen"]
    assert running.http("GET", "/_control/clock").json["now"] == "2026-05-01T10:00:01.000001+00:00"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "faults", {"kind": "flood"}, 400),
        ("POST", "faults", {"sort": "500"}, 400),
        ("POST", "datastores", {}, 400),
        ("POST", "datastores", b"{", 400),
        ("POST", "datastores", [], 400),
        ("POST", "clock", {"offset": "soon"}, 400),
        ("GET", f"datastores/{'f' * 32}/image-sets", None, 404),
        ("GET", "nothing", None, 404),
    ],
)
def test_wrong_controls_are_refused(running: Any, method: str, path: str, body: Any, status: int) -> None:
    """A mistake is answered with a reason and breaks nothing."""
    assert running.http(method, f"/_control/{path}", body).status == status
    assert running.numbers()
