"""CameraCtrl: a Plucker encoder, whose features are added block by block."""

from model.dit.camera_injection.encoder import EncoderInjection


class CameraCtrlInjection(EncoderInjection):
    """The encoder's features enter every block through a linear layer of the block's own, which starts at zero.

    Source: He et al. 2024 (arXiv 2404.02101, Sec. 3.3): camera features are added to the input of each block's
    temporal attention and pass a linear layer. A block of full attention has no temporal attention of its own, so they
    are added to the block's input; the base is trained, too, while theirs is frozen.
    """

    def __init__(self, width: int, patch_size: tuple[int, int, int], num_heads: int, num_blocks: int) -> None:
        super().__init__(width, patch_size, num_heads, num_blocks)
