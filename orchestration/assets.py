"""From a request to a version in service, thin over `orchestration.retrain`: an older one that knows the line's condition, or a new one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from detectors.errors import InvalidInput
from orchestration.lineage import version_metadata
from orchestration.resources import ATTEMPT_TAG, PID_TAG, REQUEST_TAG, Installation
from orchestration.run_process import own_identity

GROUP = "retraining"


RETURNED_VERSION = "returned_version"
NEW_CONDITION = "new_condition"


@dg.multi_asset(
    name="known_condition",
    group_name=GROUP,
    specs=[
        dg.AssetSpec(RETURNED_VERSION, skippable=True, description="An older version that knows the line's condition."),
        dg.AssetSpec(NEW_CONDITION, skippable=True, description="No version knows the line's condition: one is made."),
    ],
)
def known_condition(
    context: dg.AssetExecutionContext, installation: Installation
) -> Iterator[dg.MaterializeResult[None]]:
    """Takes the request, and takes an older version back where the line has returned to its condition: then all that follows is skipped."""
    run = context.run
    context.instance.add_run_tags(run.run_id, {PID_TAG: own_identity()})
    request_id, attempt = run.tags[REQUEST_TAG], int(run.tags[ATTEMPT_TAG])
    if not installation.ledger.begin_request(request_id, run_id=run.run_id, attempt=attempt, at=time.time()):
        raise dg.Failure(f"request {request_id} has ended or is carried out by another run", allow_retries=False)
    # Imported here to keep torch out of the daemon and the web page.
    from orchestration.returning import look_back

    with _ending_what_cannot_be(installation, request_id):
        looked = look_back(installation.retrain(run))
    if looked.outcome is None:
        yield dg.MaterializeResult(asset_key=NEW_CONDITION, metadata=looked.words)
    elif looked.version is not None:
        found: dict[str, str | int] = {"version": looked.version, "outcome": looked.outcome, **looked.words}
        yield dg.MaterializeResult(asset_key=RETURNED_VERSION, metadata=found)


@dg.asset(group_name=GROUP, deps=[NEW_CONDITION])
def training_set(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult[None]:
    """The images a new model learns from: the request's window, less what is unreadable or comes twice, a share held out."""
    run = context.run
    request_id = run.tags[REQUEST_TAG]
    with _ending_what_cannot_be(installation, request_id):
        chosen = installation.retrain(run).choose()
    return dg.MaterializeResult(
        metadata={
            "line": chosen.line,
            "images": len(chosen.fit),
            "held_out": len(chosen.held_out),
            "left_out": len(chosen.left_out),
        }
    )


@contextmanager
def _ending_what_cannot_be(installation: Installation, request_id: str) -> Iterator[None]:
    """A request that no further attempt could meet ends with the reason; the run fails."""
    try:
        yield
    except InvalidInput as error:
        installation.ledger.end_request(request_id, outcome="failed", version=None, detail=str(error), at=time.time())
        raise dg.Failure(str(error), allow_retries=False) from error


@dg.asset(group_name=GROUP, deps=[training_set])
def candidate(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult[None]:
    """A fitted model that the gates have yet to judge."""
    start = time.monotonic()
    with _ending_what_cannot_be(installation, context.run.tags[REQUEST_TAG]):
        model = installation.retrain(context.run).fit()
    return dg.MaterializeResult(
        metadata={
            "detector": model.detector.name,
            "threshold": model.threshold.value,
            "suspects_left_out": len(model.left_out),
            "fit_s": time.monotonic() - start,
        }
    )


@dg.asset(group_name=GROUP, deps=[candidate])
def published_version(context: dg.AssetExecutionContext, installation: Installation) -> dg.MaterializeResult[None]:
    """The candidate as an immutable version of the line: in service, on trial, or before a person. Only reached when all gates passed."""
    retrain = installation.retrain(context.run)
    introduced = retrain.publish()
    return dg.MaterializeResult(
        metadata={
            "version": dg.MetadataValue.int(introduced.version),
            "request": introduced.state,
            "champion": str(introduced.pointers.champion),
            "previous": str(introduced.pointers.previous),
            "sequence": introduced.pointers.sequence,
            **version_metadata(installation.ledger, installation.registry, retrain.request.line, introduced.version),
        }
    )
