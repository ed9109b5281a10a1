"""Where a line's watch begins anew, so that a restart need not live through years: at images told by their ids alone.

About one image in `EPOCH` begins an epoch. There the monitor forgets what it has seen, but what the first images of the version taught it
of their correlation, and the policy counts quiet images and the window to learn from anew (`streams.retraining.NewEpoch`). So what a
watch is depends on the images since the latest such one, the first ones of the version, and the ledger. No count is kept: whoever
looks back finds the same beginnings, in whatever order the images came.

What that costs: a change that begins within an image or some before an epoch does is noticed as much later; one in `EPOCH` divided by the
images that it takes to notice it.
"""

import hashlib

EPOCH = 20_000
"""Images of an epoch in the mean; lengths vary as the time between calls does (exponentially)."""

LONGEST_REPLAY = 200_000
"""Images that a restart looks back for a beginning; an epoch is longer with chance exp(-10), then it begins there."""

Place = tuple[float, str]
"""Where a verdict lies in the order of judgement: when it was judged, and its image."""

BEGINNING: Place = (float("-inf"), "")


def begins_epoch(image_id: str) -> bool:
    """Whether the image is one that begins an epoch.

    >>> sum(begins_epoch(f"part-{number}") for number in range(100_000))
    5
    """
    digest = hashlib.blake2b(image_id.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % EPOCH == 0
