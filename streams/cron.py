"""When a schedule comes due: cron expressions of five fields (minute, hour, day of month, month, day of week), always in UTC."""

from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

from detectors.errors import InvalidInput

EXAMPLE = "0 3 * * MON"
EXAMPLE_IN_WORDS = "Mondays at 03:00 UTC"
FIELDS = 5
LONGEST = 200
"""Characters of an expression; longer ones are a mistake, and numbers of any length in them would cost time."""


def check_schedule(expression: str) -> None:
    """Raise InvalidInput, with what is wrong and an example, for an expression that is none or never comes due.

    >>> check_schedule("0 3 * * MON")
    >>> check_schedule("0 25 * * *")
    Traceback (most recent call last):
    detectors.errors.InvalidInput: schedule '0 25 * * *' is no cron expression: bad hour; write five fields, such as '0 3 * * MON' ...
    """
    wrong = _wrong_with(expression)
    if wrong is not None:
        raise InvalidInput(
            f"schedule {expression[:LONGEST]!r} is no cron expression: {wrong}; write five fields, such as {EXAMPLE!r} "
            f"({EXAMPLE_IN_WORDS})"
        )


def last_due(expression: str, *, at: float) -> float | None:
    """The latest moment up to `at` (epoch seconds) at which a schedule came due; None where it never did in fifty years.

    >>> last_due("0 3 * * *", at=4 * 3600.0)
    10800.0
    """
    check_schedule(expression)
    moment = datetime.fromtimestamp(at, UTC)
    within = moment.replace(microsecond=max(1, moment.microsecond))  # a moment that is due itself counts
    found = next(CronSim(expression, within, reverse=True), None)
    return None if found is None else found.timestamp()


def _wrong_with(expression: str) -> str | None:
    if len(expression) > LONGEST:
        return f"{len(expression)} characters"
    fields = len(expression.split())
    if fields != FIELDS:
        return f"{fields} fields"
    try:
        comes = next(CronSim(expression, datetime(2000, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        return str(error).lower()
    return None if comes is not None else "it never comes due"
