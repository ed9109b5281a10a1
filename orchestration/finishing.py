"""A run that ended after it had put its version into service, and before it could say so: the registry's pointer is the truth."""

from detectors.errors import ArtifactError, NotFound
from detectors.registry import Registry
from streams.causes import SYSTEM, SYSTEM_ROLE
from streams.ledger import AuditEntry, Ledger
from streams.messages import ModelPromoted, RetrainRequest


def finish_promoted(ledger: Ledger, registry: Registry, request: RetrainRequest, *, at: float) -> bool:
    """Say what a dead or cancelled run of the request left unsaid, where the line's champion came of it; False, and nothing said, else.

    The promotion has the identity that the run would have given it, so that it stands once whoever tells it.
    """
    pointers = registry.pointers(request.line)
    if pointers.champion is None or not _came_of(registry, pointers.champion, request):
        return False
    promoted = ModelPromoted(
        line=request.line, version=pointers.champion, previous=pointers.previous, sequence=pointers.sequence, by=SYSTEM,
        why=request.cause, at=at, request_id=request.request_id,
    )  # fmt: skip
    detail = f"version {promoted.version} was in service when its run ended"
    ledger.act(AuditEntry(at, SYSTEM, SYSTEM_ROLE, "promote", request.line, detail), (promoted,))
    ledger.end_request(request.request_id, outcome="promoted", version=promoted.version, detail=detail, at=at)
    return True


def _came_of(registry: Registry, version: int, request: RetrainRequest) -> bool:
    try:
        return registry.manifest(request.line, version).request_id == request.request_id
    except (ArtifactError, NotFound):
        return False
