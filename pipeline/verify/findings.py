"""What a verification found, as machines and people read it. Counts by place, never an image set."""

from typing import Any

from ahi_catalog.connectors.catalog.verification import Finding, Verification


def document(verification: Verification) -> dict[str, Any]:
    """As JSON goes."""
    return {
        "asked": verification.asked,
        "repaired": verification.is_repairing,
        "finished": verification.finished_at is not None,
        "findings": {place: dict(counts) for place, counts in sorted(verification.findings.items())},
        "totals": {str(kind): verification.totals[kind] for kind in Finding},
        "left": verification.unrepaired,
    }


def in_words(verification: Verification) -> str:
    """In one line."""
    totals = verification.totals
    return ", ".join(f"{kind} {totals[kind]:,}" for kind in Finding if totals[kind]) or "nothing wrong"


def scope_in_words(verification: Verification) -> str:
    """What was asked for, where that was not all; else nothing."""
    bounds, _, rest = verification.asked.partition(" part ")
    part, _, share = rest.partition(" metadata ")
    parts = [*([] if bounds == ".." else [bounds]), *([] if part == "1/1" else [f"part {part}"])]
    return ", ".join([*parts, *([f"metadata of {float(share) * 100:g} %"] if share else [])])


def table(verification: Verification) -> tuple[list[str], list[list[str]]]:
    """As a table: the columns, and a row a place."""
    kinds = [kind for kind in Finding if verification.totals[kind]]
    rows = [
        [place, *(f"{counts[kind]:,}" if counts[kind] else "" for kind in kinds)]
        for place, counts in sorted(verification.findings.items())
    ]
    return ["where", *kinds], rows
