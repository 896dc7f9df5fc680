"""The fault matrix (docs/reliability.md): each row has tests, and the table names them."""

from __future__ import annotations

from tests.unit.marks import ROOT, listed, marked

TABLE = ROOT / "docs" / "reliability.md"
ROWS = set(range(1, 27))


def test_each_row_has_a_test() -> None:
    assert set(marked("matrix")) == ROWS


def test_the_table_lists_these_tests_and_no_others() -> None:
    assert listed(TABLE) == marked("matrix")
