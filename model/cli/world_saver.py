"""What a stage that trains a DiT writes at intervals: figures, a picture, and the world so far."""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from model.distillation.adversarial import AdversarialPair
from model.dit.video_dit import VideoDiT
from model.evaluation.oracle import OracleScenes
from model.evaluation.preview import WorldPreview
from model.tensor_file import save_tensors
from model.text.encoder import TextEncoder
from model.training import distributed
from model.training.loop import with_average
from model.training.lora import has_lora, lora_tensors, merged
from model.training.precision import products_in_bfloat16
from model.training.state import TrainState
from model.vae.video_vae import VideoVAE
from model.whole_file import write_text
from model.world.config import WorldConfig
from model.world.load import save_world
from model.world.networks import read_dit, save_wan_world

CARD_FILE = "card.md"
LORA_FILE = "pytorch_lora_weights.safetensors"  # as diffusers calls it


class WorldSaver:
    """The `sample` of `fit`: previews the world in training and rewrites its folder, `RUN/world`.

    Args:
        run: The run's folder.
        state: What is trained.
        world: The world's settings.
        vae: The world's VAE.
        text_encoder: The world's text encoder.
        scenes: What it flies through; None: there are no previews.
        num_clips: How many it learns from, for the record.
        is_bfloat16: In previews the network computes as in the training, with products in bfloat16.
        vae_meta: The VAE's own record.
        parent: What the world's card says of the world that it continues (`fine_tuning.parent_of`); None: nothing.
        teacher: The world whose network the student's weights are averaged with, and its share; None: no average.

    Source of the average: Wortsman et al. 2022, "Robust fine-tuning of zero-shot models".
    """

    def __init__(
        self,
        run: Path,
        state: TrainState,
        world: WorldConfig,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        scenes: OracleScenes | None,
        *,
        num_clips: int,
        is_bfloat16: bool,
        vae_meta: dict[str, Any],
        parent: dict[str, Any] | None = None,
        teacher: tuple[Path, float] | None = None,
    ) -> None:
        self.folder = run / "world"
        self.state, self.world, self.vae = state, world, vae
        self.num_clips, self.vae_meta = num_clips, vae_meta
        self.parent, self.teacher = parent, teacher
        self.is_bfloat16 = is_bfloat16
        self.last_step: int | None = None
        self._preview = None if scenes is None else WorldPreview(run, vae, text_encoder, world, scenes)

    def __call__(self, module: nn.Module, step: int) -> None:
        """Writes all of it, and prints the figures; of an adversarial pair only the generator is written."""
        if isinstance(module, AdversarialPair):
            module = module.generator
        assert isinstance(module, VideoDiT)
        if self.teacher is not None:
            folder, weight = self.teacher
            module = averaged(module, read_dit(folder), weight)
        with products_in_bfloat16(module, self.state.device, self.is_bfloat16):
            figures = {} if self._preview is None else self._preview(module, step)
        hours = round(self.state.elapsed_seconds / 3600, 2)
        meta = {"steps": step, "hours": hours, "clips": self.num_clips, "cores": os.cpu_count(), "preview": figures}
        if self.parent is not None:
            meta["parent"] = self.parent
        self.last_step = step
        if has_lora(module):
            save_tensors(self.folder / LORA_FILE, lora_tensors(module), {"format": "pt"})
            module = merged(module)
        if self.world.text_encoder.kind == "umt5":
            save_wan_world(self.folder, module, self.vae, self.world)
        else:
            save_world(self.folder, module, self.vae, self.world, meta=meta, vae_meta=self.vae_meta)
        write_text(self.folder / CARD_FILE, world_card(self.world, module, meta))
        print(f"\nstep {step}, {hours} h: {figures or self.folder}", flush=True)

    def finish(self) -> Path:
        """Saves the end of the training, if its last step was not saved; returns the world's folder.

        All processes must call this; the first one saves.
        """
        is_missing = int(self.last_step != self.state.step)
        if distributed.broadcast_int(is_missing, self.state.device):
            with_average(self.state, self)
        return self.folder


def world_card(world: WorldConfig, dit: VideoDiT, meta: dict[str, Any]) -> str:
    """The card of a trained world: what it is, how long it was trained, and which world it started from."""
    parameters = sum(parameter.numel() for parameter in dit.parameters())
    lines = [
        f"# A world of {world.height}x{world.width}",
        "",
        f"A video DiT of {parameters:,} parameters, made by `model.cli`: {meta['steps']:,} steps on "
        f"{meta['clips']:,} clips, {meta['hours']} hours.",
    ]
    parent = meta.get("parent")
    if parent and "base" in parent:
        lines += ["", f"Open base: `{parent['base']}`."]
    elif parent:
        lines += [
            "",
            f"Parent: the world `{parent['world']}` of {parent['height']}x{parent['width']} (fingerprint "
            f"{parent['fingerprint']}), the network of its sampler `{parent['sampler']}`.",
        ]
    if meta["preview"]:
        lines += ["", "Preview on held-out scenes, PSNR in dB:", ""]
        lines += [f"- {name}: {value}" for name, value in meta["preview"].items()]
    return "\n".join(lines) + "\n"


def averaged(student: VideoDiT, teacher: VideoDiT, teacher_weight: float) -> VideoDiT:
    """A new network whose every weight lies on the line from the student's to the teacher's."""
    average, others = copy.deepcopy(student), teacher.state_dict()
    with torch.no_grad():
        for name, tensor in average.state_dict().items():
            tensor.lerp_(others[name].to(tensor), teacher_weight)
    return average
