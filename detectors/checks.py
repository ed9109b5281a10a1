"""What every detector asks of the patch features it is given.

Shape legend: B images, H x W patch grid, D feature dimensions.
"""

import numpy as np

from detectors.contract import Mask, Parts, Patches
from detectors.errors import InvalidInput


def require_patches(patches_BHWD: Patches) -> None:
    """Raise InvalidInput for anything but at least one image of finite float32 patches `(B, H, W, D)`."""
    if patches_BHWD.ndim != 4 or patches_BHWD.dtype != np.float32 or patches_BHWD.size == 0:
        raise InvalidInput(
            f"patches of shape {patches_BHWD.shape} and type {patches_BHWD.dtype}; "
            "float32 (images, height, width, dimensions) of at least one image are needed"
        )
    finite_B = np.isfinite(patches_BHWD).all(axis=(1, 2, 3))
    if not finite_B.all():
        raise InvalidInput(f"patches of image {int(np.argmin(finite_B))} hold NaN or infinity; leave that image out")


def require_like(patches_BHWD: Patches, fitted: tuple[int, int, int]) -> None:
    """Raise InvalidInput for patches of another (height, width, dimensions) than the fit's, and what `require_patches` does."""
    require_patches(patches_BHWD)
    found = patches_BHWD.shape[1:]
    if found != fitted:
        raise InvalidInput(
            f"patches {found[0]} x {found[1]} of {found[2]} dimensions, fitted on {fitted[0]} x {fitted[1]} "
            f"of {fitted[2]}; use the extractor of the fit"
        )


def require_fit(patches_BHWD: Patches, parts_B: Parts | None) -> Parts:
    """The part each image of a fit shows, numbered from 0: `parts_B`, or where it is None every image one of its own.

    Raises InvalidInput where there are not two parts, so that each can be left out, where the parts are not one whole
    number an image, and what `require_patches` does.

    >>> require_fit(np.zeros((3, 2, 2, 4), np.float32), None).tolist()
    [0, 1, 2]
    """
    require_patches(patches_BHWD)
    images = len(patches_BHWD)
    parts = np.arange(images) if parts_B is None else np.asarray(parts_B)
    if parts.shape != (images,) or parts.dtype.kind != "i":
        raise InvalidInput(f"parts of shape {parts.shape} and type {parts.dtype}; one whole number an image is needed")
    different, numbers_B = np.unique(parts, return_inverse=True)
    if len(different) < 2:
        raise InvalidInput(f"{images} images of 1 part; a fit leaves each part out in turn, give at least 2")
    return numbers_B.astype(np.int64)


def require_vouched(patches_BHWD: Patches, vouched_B: Mask | None) -> Mask:
    """Which images of a fit people called normal: `vouched_B`, none where it is None.

    Raises InvalidInput for anything but one bool an image.
    """
    images = len(patches_BHWD)
    vouched = np.zeros(images, np.bool_) if vouched_B is None else np.asarray(vouched_B)
    if vouched.shape != (images,) or vouched.dtype != np.bool_:
        raise InvalidInput(f"vouched of shape {vouched.shape} and type {vouched.dtype}; one bool an image is needed")
    return vouched


def require_place(grid: tuple[int, int], row: int, column: int) -> None:
    """Raise InvalidInput for a patch that is not on a grid of (height, width)."""
    height, width = grid
    if not (0 <= row < height and 0 <= column < width):
        raise InvalidInput(f"patch ({row}, {column}) of a grid of {height} x {width}; count rows and columns from 0")
