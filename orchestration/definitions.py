"""The Dagster code location: one job from a request to a version in service, the sensor that starts it, and the sensors that look after
versions on trial and on probation.

Light on purpose: torch is imported by the run, not by the daemon or the web page.
"""

import os

import dagster as dg

from orchestration.assets import candidate, known_condition, published_version, training_set
from orchestration.checks import gate_checks
from orchestration.resources import Installation
from orchestration.sensors import requested_retrains, retrain_job, standing_causes
from orchestration.trials import versions_on_probation, versions_on_trial
from streams.settings import Settings

defs = dg.Definitions(
    assets=[known_condition, training_set, candidate, published_version],
    asset_checks=gate_checks,
    jobs=[retrain_job],
    sensors=[requested_retrains, standing_causes, versions_on_trial, versions_on_probation],
    resources={"installation": Installation(home=str(Settings.from_environ(os.environ).home))},
)
