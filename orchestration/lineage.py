"""What Dagster's page tells of a version: the words of `driftline models show`."""

import dagster as dg

from detectors.registry import Registry
from detectors.registry_keys import card_key
from streams.ledger import Ledger
from streams.lineage import version_story
from streams.lineage_words import version_words


def version_metadata(
    ledger: Ledger, registry: Registry, line: str, version: int
) -> dict[str, dg.MarkdownMetadataValue | dg.TextMetadataValue]:
    """The story of a version, and where its card lies, as metadata of an asset."""
    words = version_words(version_story(ledger, registry, line, version))
    return {
        "lineage": dg.MetadataValue.md("\n".join(f"- {each}" for each in words)),
        "model card": dg.MetadataValue.text(card_key(line, version)),
    }
