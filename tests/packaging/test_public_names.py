"""The public interface: what `from ahi_catalog import …` gives."""

import re
import subprocess
import sys

import pytest

import ahi_catalog
from ahi_catalog import AhiCatalogError, Answer, Catalog
from tests.support.installation import ROOT

PAGE = ROOT / "docs/duckdb-and-pandas.md"


def test_the_docs_list_every_public_name() -> None:
    """The section "Public names" lists `__all__`."""
    section = PAGE.read_text(encoding="utf-8").split("## Public names")[1]
    assert sorted(re.findall(r"^- `(\w+)`", section, flags=re.MULTILINE)) == sorted(ahi_catalog.__all__)


def ask(catalog: Catalog) -> Answer:
    """Refused by mypy in strict mode where a name of ahi_catalog has no type."""
    return catalog.query("from image_sets")


def test_public_names_have_the_types_of_what_they_name() -> None:
    """Each name leads to the object of that name, and no other name is one. mypy holds the types of ask()."""
    assert [getattr(ahi_catalog, name).__name__ for name in ahi_catalog.__all__] == ahi_catalog.__all__
    assert issubclass(AhiCatalogError, Exception)
    with pytest.raises(AttributeError, match="has no attribute 'Catalogue'"):
        _ = ahi_catalog.Catalogue


def test_importing_the_package_imports_nothing_heavy() -> None:
    """`import ahi_catalog` brings in neither pyarrow nor boto3, DuckDB or Prefect; a name does when it is asked for."""
    code = (
        "import sys, ahi_catalog; print(sorted({'pyarrow', 'boto3', 'duckdb', 'prefect'} & set(sys.modules)));"
        "ahi_catalog.Catalog; print('pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\nTrue\n"
