"""A table of a replay's report, a row a phase: who judged, what was flagged, what was noticed; and how each request ended.

python -m tests.scenarios.phases r.json
"""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

Report = Mapping[str, Any]
HEAD = ("phase", "images", "judged by version", "good flagged", "bad flagged", "incidents")


def rows_of(report: Report) -> Iterator[tuple[str, ...]]:
    """The cells of each phase."""
    for phase in report["phases"]:
        by_model = phase["by_model"]
        incidents = [f"{each['kind']} after {each['after_images']} images" for each in phase["incidents"]]
        yield (
            phase["name"],
            str(phase["sent"]),
            ", ".join(f"{version}: {each['good'] + each['bad']}" for version, each in by_model.items()),
            ", ".join(f"{version}: {each['flagged_good']} of {each['good']}" for version, each in by_model.items()),
            ", ".join(f"{version}: {each['flagged_bad']} of {each['bad']}" for version, each in by_model.items()),
            "; ".join(incidents) or "none",
        )


def summary_of(report: Report) -> str:
    """Versions, requests by outcome, and what became of the images, in a line."""
    outcomes = Counter(each["outcome"] for each in report["requests"])
    ended = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    images = f"sent {report['sent']}, lost {report['lost']}, doubled {report['doubled']}"
    return f"{len(report['versions'])} versions; requests: {ended or 'none'}; {images}"


def table_of(report: Report) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield _line(HEAD)
    yield _line("---" for _ in HEAD)
    yield from map(_line, rows_of(report))
    yield ""
    yield summary_of(report)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table of each report."""
    for name in sys.argv[1:]:
        print(*table_of(json.loads(Path(name).read_text())), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
