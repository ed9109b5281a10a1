"""Dagster's code location and the `driftline` command: composition roots over `streams` and `detectors`."""
