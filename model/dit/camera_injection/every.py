"""The paper's ablation "multilayer injection": a Plucker patchify layer for every block."""

from model.dit.camera_embed import CameraEmbedding


class EveryBlockInjection(CameraEmbedding):
    """The paper's layer, but with separate tokens for each block, added before it.

    Source: the paper, Table 4, "Multilayer Inj."; it does not say whether the blocks share tokens; here they do not.
    """

    def __init__(
        self, width: int, patch_size: tuple[int, int, int], num_blocks: int, init_std: float, num_frequencies: int
    ) -> None:
        super().__init__(num_blocks * width, patch_size, init_std, num_frequencies)
