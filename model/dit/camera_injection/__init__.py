"""Where and how the camera enters the transformer: the paper's way, its ablations, and three rivals on the same base.

All start at zero, so that a base is unchanged at step 0, and add nothing for the null camera, an all-zero map.
"""

from model.dit.camera_embed import CameraEmbedding, CameraInjection
from model.dit.camera_injection.ac3d import SideBranch
from model.dit.camera_injection.cameractrl import CameraCtrlInjection
from model.dit.camera_injection.encoder import EncoderInjection
from model.dit.camera_injection.every import EveryBlockInjection
from model.dit.camera_injection.motionctrl import ExtrinsicsInjection

INJECTIONS = ("first", "every", "encoder", "motionctrl", "cameractrl", "ac3d")


def build_injection(
    name: str,
    width: int,
    patch_size: tuple[int, int, int],
    num_heads: int,
    num_blocks: int,
    *,
    init_std: float = 0.0,
    num_frequencies: int = 0,
) -> CameraInjection:
    """The injection of a name; `init_std` and `num_frequencies` are for `first` and `every` only.

    Raises:
        ValueError: There is no such injection.
    """
    match name:
        case "first":
            return CameraEmbedding(width, patch_size, init_std, num_frequencies)
        case "every":
            return EveryBlockInjection(width, patch_size, num_blocks, init_std, num_frequencies)
        case "encoder":
            return EncoderInjection(width, patch_size, num_heads)
        case "motionctrl":
            return ExtrinsicsInjection(width, patch_size, num_blocks)
        case "cameractrl":
            return CameraCtrlInjection(width, patch_size, num_heads, num_blocks)
        case "ac3d":
            return SideBranch(width, patch_size, num_blocks)
        case _:
            raise ValueError(f"camera_injection: expected one of {list(INJECTIONS)}, got {name!r}")
