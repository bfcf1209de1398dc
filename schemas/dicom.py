"""DICOM's DA and TM texts as Arrow dates and times, a whole column at a time.

The forms are those of DICOM PS3.5 section 6.2 (DA: ``YYYYMMDD``, TM: ``HH[MM[SS[.F{1,6}]]]``) and the
older ones that PS3.5 asks readers to accept (``YYYY.MM.DD``, ``HH:MM:SS[.F]``). Trailing blanks and NULs
are padding. Whatever else stands there, and a day that the calendar does not have, gives null: never
today's date, never a guess.
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

# A day of the Gregorian calendar, year 0001 to 9999, as YYYYMMDD: months of 31 and of 30 days, February,
# and the 29th of February in the years that 4 divides, but of the centuries only those that 400 divides.
_CALENDAR: Final = (
    r"^(?:"
    r"\d{4}(?:(?:0[13578]|1[02])(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)(?:0[1-9]|[12]\d|30)|02(?:0[1-9]|1\d|2[0-8]))"
    r"|(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)0229"
    r")$"
)
_OLD_DATE: Final = r"^(\d{4})\.(\d{2})\.(\d{2})$"
_TIME: Final = (
    r"^(?P<h>[01]\d|2[0-3])"
    r"(?:(?P<m>[0-5]\d)(?:(?P<s>[0-5]\d)(?:\.(?P<f>\d{1,6}))?)?"
    r"|:(?P<om>[0-5]\d):(?P<os>[0-5]\d)(?:\.(?P<of>\d{1,6}))?)?$"
)
_PADDING: Final = r"[ \x00]+$"
_SECOND: Final = 1_000_000


def unpad(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """The texts without their trailing blanks and NULs, the padding of DICOM's strings."""
    return pc.replace_substring_regex(texts, _PADDING, "")


def parse_dates(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """DA texts as date32, null where a text is absent, malformed or no day of the calendar."""
    digits = pc.replace_substring_regex(unpad(texts), _OLD_DATE, r"\1\2\3")
    real = pc.and_(pc.match_substring_regex(digits, _CALENDAR), pc.invert(pc.starts_with(digits, "0000")))
    iso = pc.replace_substring_regex(digits, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    return pc.cast(pc.if_else(real, iso, pa.scalar(None, pa.string())), pa.date32())


def parse_times(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """TM texts as int64 microseconds since midnight, null where a text is absent or malformed.

    A second of 60, which DICOM allows for leap seconds, is malformed here: no timestamp can hold it.
    """
    parts = pc.extract_regex(unpad(texts), _TIME)

    def part(name: str) -> pa.ChunkedArray:
        return pc.struct_field(parts, name)

    def either(new: str, old: str) -> pa.ChunkedArray:
        # A part that is not there is an empty string; of the two forms at most one is there.
        return pc.binary_join_element_wise(part(new), part(old), "")

    def number(digits: pa.ChunkedArray, width: int) -> pa.ChunkedArray:
        return pc.cast(pc.utf8_rpad(digits, width, "0"), pa.int64())

    minutes = pc.add(pc.multiply(number(part("h"), 2), 60), number(either("m", "om"), 2))
    seconds = pc.add(pc.multiply(minutes, 60), number(either("s", "os"), 2))
    return pc.add(pc.multiply(seconds, _SECOND), number(either("f", "of"), 6))


def combine(dates: pa.ChunkedArray, times: pa.ChunkedArray) -> pa.ChunkedArray:
    """Days and microseconds since midnight as timestamp[us] without zone; null where either is null."""
    midnight = pc.cast(pc.cast(dates, pa.timestamp("us")), pa.int64())
    return pc.cast(pc.add(midnight, times), pa.timestamp("us"))
