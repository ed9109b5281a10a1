"""Rows as a CSV file that a spreadsheet opens without running anything in it."""

import csv
import io
from collections.abc import Iterable, Sequence

_FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a spreadsheet takes for the beginning of a formula (OWASP, CSV injection)."""

Cell = str | int | float


def spreadsheet(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """A CSV file in UTF-8; its mark at the beginning tells Excel so. Text that might be a formula is made harmless, numbers stay numbers.

    >>> spreadsheet(["note"], [["=1+1"], ["fine"]])
    b"\\xef\\xbb\\xbfnote\\r\\n'=1+1\\r\\nfine\\r\\n"
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([harmless(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
    return out.getvalue().encode("utf-8-sig", errors="replace")


def harmless(cell: str) -> str:
    """The cell, with an apostrophe before what a spreadsheet would take for a formula.

    >>> harmless("-2"), harmless("part-2")
    ("'-2", 'part-2')
    """
    return f"'{cell}" if cell.startswith(_FORMULAS) else cell
