"""Looks after versions on trial and champions on probation: the judgement is `streams.trials`', the effects are `streams.succession`'s."""

import json
import time

import dagster as dg

from orchestration.resources import Installation
from streams.reconciling import tell_untold
from streams.succession import look_at_probations, look_at_trials


@dg.sensor(name="versions_on_trial", minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def versions_on_trial(context: dg.SensorEvaluationContext, installation: Installation) -> dg.SkipReason:
    """Challengers that have scored enough images are promoted, refused or put before a person. Starts no run."""
    done = look_at_trials(installation.ledger, installation.registry, installation.in_force.of, now=time.time())
    return _told(context, done, "no trial has come to an end")


@dg.sensor(name="versions_on_probation", minimum_interval_seconds=3, default_status=dg.DefaultSensorStatus.RUNNING)
def versions_on_probation(context: dg.SensorEvaluationContext, installation: Installation) -> dg.SkipReason:
    """Champions that are worse than the version they replaced are rolled back, and changes of champion that nobody could tell are told.
    Starts no run.
    """
    missing, told = tell_untold(installation.ledger, installation.registry, _missing(context.cursor), at=time.time())
    context.update_cursor(json.dumps(missing))
    done = told + look_at_probations(
        installation.ledger, installation.registry, installation.in_force.of, now=time.time()
    )
    return _told(context, done, "no champion is worse than the version before it")


def _missing(cursor: str | None) -> dict[str, int]:
    """What was missing at the last look."""
    return dict(json.loads(cursor)) if cursor else {}


def _told(context: dg.SensorEvaluationContext, done: list[str], nothing: str) -> dg.SkipReason:
    for words in done:
        context.log.info(words)
    return dg.SkipReason("; ".join(done) or nothing)
