"""One scan hands back its window for each idle worker."""

import threading
from concurrent.futures import ThreadPoolExecutor

from ahi_catalog.pipeline.handing_back import HandingBack


def test_as_many_scans_hand_back_as_were_asked() -> None:
    """However many look at the same time; the others go on."""
    handing_back, together = HandingBack(), threading.Barrier(8)

    def look() -> int:
        together.wait()
        return sum(handing_back.take() for _ in range(100))

    handing_back.ask(5)
    with ThreadPoolExecutor(8) as scans:
        assert sum(scan.result() for scan in [scans.submit(look) for _ in range(8)]) == 5


def test_asking_again_replaces_what_was_asked() -> None:
    """Workers that found something to do need nothing more."""
    handing_back = HandingBack()
    handing_back.ask(3)
    handing_back.ask(1)
    assert [handing_back.take(), handing_back.take()] == [True, False]
    handing_back.ask(3)
    handing_back.ask(0)
    assert not handing_back.take()
