"""Open Wan weights in diffusers' folder format, to our classes and back: one function per direction and network."""

from model.pretrained.wan_dit import load_dit, save_dit
from model.pretrained.wan_pipeline import check_pipeline
from model.pretrained.wan_vae import load_vae, save_vae

__all__ = ["check_pipeline", "load_dit", "load_vae", "save_dit", "save_vae"]
