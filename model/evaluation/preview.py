"""Previews of a world in training: a few held-out scenes against the oracle, as a line of figures and a picture."""

import json
from pathlib import Path

import torch

from model.curation.training_clips import held_out_set, is_data_set
from model.data.clips import ClipSetConfig
from model.data.video_io import write_image
from model.dit.video_dit import VideoDiT
from model.evaluation.oracle import OracleScenes, evaluate_oracle, render_oracle_scenes
from model.evaluation.report import comparison_sheet, summarise
from model.text.encoder import TextEncoder
from model.training.curve import truncate
from model.vae.video_vae import VideoVAE
from model.world.config import WorldConfig
from model.world.load import assemble_world

_MOST_SCENES = 16  # are flown at once; of large ones only as many as the VAE decodes in one piece


class WorldPreview:
    """Flies the DiT in training through the same held-out scenes every time.

    Args:
        folder: Receives `samples/step_*.png` and `samples/curve.jsonl`.
        vae: The world's VAE.
        text_encoder: The world's text encoder.
        config: The world's settings.
        scenes: The scenes that it flies through.
    """

    def __init__(
        self,
        folder: Path,
        vae: VideoVAE,
        text_encoder: TextEncoder,
        config: WorldConfig,
        scenes: OracleScenes,
    ) -> None:
        self.folder = folder / "samples"
        self.vae, self.text_encoder, self.config = vae, text_encoder, config
        self.scenes = scenes

    def __call__(self, dit: VideoDiT, step: int) -> dict[str, float]:
        """Returns the PSNR figures (dB) of `summarise`, appends them to the curve, and writes a picture."""
        world = assemble_world(dit, self.vae, self.text_encoder, self.config)
        latents = self.vae.config.latents_at_once(1, self.config.height, self.config.width)
        at_once = max(1, min(_MOST_SCENES, latents // self.config.poses_per_clip))
        result = evaluate_oracle(world, world, self.scenes, batch_size=at_once)
        summary = summarise(result)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_image(self.folder / f"step_{step:06d}.png", comparison_sheet(self.scenes, result))
        path = self.folder / "curve.jsonl"
        truncate(path, step - 1)  # a run that was killed repeats its last previews
        with path.open("a") as curve:
            curve.write(json.dumps({"step": step, **summary}) + "\n")
        return summary


def preview_scenes(folder: Path, clips: ClipSetConfig, num_scenes: int) -> OracleScenes | None:
    """Held-out scenes as long and large as `clips` says: rendered ones, or those of a data set's held-out films.

    Returns:
        None if the folder is a data set of films without held-out clips with a metric camera; a line says so.
    """
    if not is_data_set(folder):
        return render_oracle_scenes(clips, num_scenes)
    films = held_out_set(folder, clips)
    rows = [] if films is None else films.labelled.nonzero()[:num_scenes, 0].tolist()
    if films is None or not rows:
        print("no previews: they need held-out clips with a metric camera; the training is the same without them")
        return None
    return OracleScenes(
        frames=torch.stack([torch.from_numpy(films.frames(row).copy()) for row in rows]),
        poses=films.poses[rows],
        intrinsics=films.intrinsics[rows].median(dim=0).values,
        seeds=rows,
        captions=[films.captions[row] for row in rows],
        kinds=[films.kinds[row] for row in rows],
        fps=clips.fps,
    )
