"""What can go wrong, as one tree. Every message says the value, the limit and the cure.

DriftlineError
+-- InvalidInput        wrong use or bad input by the caller (exit status 2)
|   +-- ImageError      these bytes cannot be scored, now or ever (a dead letter)
|   +-- BudgetError     would need more memory, disk or time than allowed
|   +-- NotYet          named in the contract, built by a later issue
+-- NotFound            no such line, version, object
+-- ArtifactError       a model that is broken, tampered with, or scores its golden image differently
+-- Conflict            somebody else changed it first: read again and decide anew
+-- Unavailable         a store, bus or database is away: wait and try again, never drop
"""


class DriftlineError(Exception):
    """Base of every error raised on purpose by this distribution."""


class InvalidInput(DriftlineError):
    """Wrong use or bad input: permanent, the same call fails again."""


class ImageError(InvalidInput):
    """Bytes that cannot be decoded or may not be scored (truncated, no image, over the size limit)."""


class BudgetError(InvalidInput):
    """The work would need more than the budget; the message says how much and what to try."""


class NotYet(InvalidInput):
    """Part of the contract, not built yet."""


class NotFound(DriftlineError):
    """No line, version, object or pointer of that name."""


class ArtifactError(DriftlineError):
    """A model artefact that must not be used: digest, format or golden image do not agree."""


class Conflict(DriftlineError):
    """A compare-and-swap lost: the expected revision is no longer the current one."""


class Unavailable(DriftlineError):
    """A store, bus or database does not answer: transient, wait and try again."""
