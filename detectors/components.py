"""Principal components of patch features: fewer dimensions that keep most of what differs.

Shape legend: B images, H x W patch grid of P patches, D feature dimensions, C components.
"""

import numpy as np

from detectors.contract import Patches


def principal_components(patches_BHWD: Patches, dimensions: int) -> tuple[Patches, Patches]:
    """Mean `(D,)` and the first principal components `(D, C)` of all patches, in one pass over the images.

    >>> mean_D, components_DC = principal_components(np.array([[[[0, 0], [2, 4]]]], np.float32), 1)
    >>> mean_D.tolist(), (components_DC / components_DC[0]).round(3).tolist()
    ([1.0, 2.0], [[1.0], [2.0]])
    """
    features = patches_BHWD.shape[-1]
    mean_D = patches_BHWD.mean(axis=(0, 1, 2), dtype=np.float64)
    scatter_DD = np.zeros((features, features))
    for image_HWD in patches_BHWD:
        apart_ND = (image_HWD.reshape(-1, features) - mean_D).astype(np.float32)
        scatter_DD += apart_ND.T @ apart_ND
    _, vectors_DD = np.linalg.eigh(scatter_DD)
    components_DC = np.ascontiguousarray(vectors_DD[:, ::-1][:, :dimensions])
    return mean_D.astype(np.float32), components_DC.astype(np.float32)


def projected(patches_BHWD: Patches, mean_D: Patches, components_DC: Patches) -> Patches:
    """Components of every patch, `(B, P, C)`, image by image, so that they do not depend on the batch."""
    images, height, width, features = patches_BHWD.shape
    points_BPC = np.empty((images, height * width, components_DC.shape[1]), np.float32)
    for image, patches_HWD in enumerate(patches_BHWD):
        np.matmul(patches_HWD.reshape(-1, features) - mean_D, components_DC, out=points_BPC[image])
    return points_BPC
