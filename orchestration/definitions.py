"""The Dagster code location: one job from a request to a published version, and the sensor that starts it.

Light on purpose: torch is imported by the run, not by the daemon or the web page.
"""

import os

import dagster as dg

from orchestration.assets import candidate, published_version, training_set
from orchestration.checks import gate_checks
from orchestration.resources import Installation
from orchestration.sensors import requested_retrains, retrain_job, standing_causes
from streams.settings import Settings

defs = dg.Definitions(
    assets=[training_set, candidate, published_version],
    asset_checks=gate_checks,
    jobs=[retrain_job],
    sensors=[requested_retrains, standing_causes],
    resources={"installation": Installation(home=str(Settings.from_environ(os.environ).home))},
)
