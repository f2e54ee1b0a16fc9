"""The video diffusion transformer: Wan 2.1's network, the paper's camera layer, a context-mask channel."""

from model.dit.video_dit import VideoDiT, VideoDiTConfig

__all__ = ["VideoDiT", "VideoDiTConfig"]
