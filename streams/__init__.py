"""Messages, the bus, workers, drift, the ledger and the camera: what flows, and what happened. Stands on `detectors`."""
