"""Features, anomaly detectors, calibration, artefacts, the object store and the model registry. Imports no other room."""
