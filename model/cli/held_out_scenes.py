"""The held-out scenes that the evaluations fly: rendered ones, or episodes of another world that is the truth."""

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial

from model.build import OracleConfig, SamplerTableConfig
from model.data.clips import FRAMES_PER_LATENT, ClipSetConfig, record_path
from model.data.synthetic.themes import known_style
from model.evaluation.oracle import OracleScenes, render_oracle_scenes
from model.evaluation.paper.settings import PaperConfig
from model.evaluation.true_scenes import film_true_scenes
from model.evaluation.truth import CameraTruth
from model.world.load import load_world
from model.world.protocol import WorldSpec


def oracle_scenes(spec: WorldSpec, config: OracleConfig) -> tuple[ClipSetConfig, OracleScenes, Sequence[CameraTruth]]:
    """The held-out scenes for a world of this specification, their settings, and what is known of each.

    Raises:
        ValueError: A setting is invalid or has no effect beside `truth`, or a world cannot be the truth.
    """
    if config.truth is None:
        clips = dataclasses.replace(clips_for(spec, config), style=known_style(config.style or "soft"))
        scenes = dataclasses.replace(render_oracle_scenes(clips, config.num_scenes), with_caption=config.captions)
        return clips, scenes, scenes.truths()
    for name in ("captions", "style"):
        if value := getattr(config, name):
            raise ValueError(
                f"{name}: expected none beside truth={config.truth}, which has none, got {value}; leave it out"
            )
    clips = held_out_clips(spec, config)
    paths = partial(record_path, clips)
    scenes, truths = film_true_scenes(load_world(config.truth), spec, paths, config.first_seed, config.num_scenes)
    return clips, scenes, truths


def clips_for(spec: WorldSpec, config: OracleConfig | SamplerTableConfig | PaperConfig) -> ClipSetConfig:
    """Held-out clips in a world's own size, frame rate and field of view, `config.num_clips` of its clips long.

    Clips are rendered through centred lenses with square pixels. If the world's own lens differs, only its horizontal
    field of view is kept, and a message says so: scenes and world then use a lens that is not the world's own.

    Raises:
        ValueError: There is no scene or no clip to fly, or the world's poses are not those of the scenes.
    """
    if spec.frames_per_pose != FRAMES_PER_LATENT:
        raise ValueError(
            f"world: expected {FRAMES_PER_LATENT} frames for each pose, as the rendered scenes have, got "
            f"{spec.frames_per_pose} ({spec.frames_per_clip} frames and {spec.poses_per_clip} poses a clip); measure "
            "it on a world that renders any view: evaluate oracle truth=mesh"
        )
    clips = held_out_clips(spec, config)
    fov, lens = clips.horizontal_fov_deg, clips.intrinsics().tolist()
    if any(abs(ours - theirs) > 1e-4 for ours, theirs in zip(lens, spec.intrinsics, strict=True)):
        print(
            f"lens: scenes are rendered, and the world is flown, through {fov:g} degrees wide, centred, with square "
            f"pixels, (fx, fy, cx, cy) = {_rounded(lens)}; the world's own is {_rounded(spec.intrinsics)}"
        )
    return clips


def held_out_clips(spec: WorldSpec, config: OracleConfig | SamplerTableConfig | PaperConfig) -> ClipSetConfig:
    """Size, rate, field of view and length of held-out clips for a world.

    Raises:
        ValueError: There is no scene or no clip to fly.
    """
    for name in ("num_scenes", "num_clips", "batch_size"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name}: expected at least 1, got {getattr(config, name)}")
    return ClipSetConfig(
        num_clips=config.num_scenes,
        num_latents=1 + config.num_clips * spec.poses_per_clip,
        height=spec.height,
        width=spec.width,
        fps=spec.fps,
        horizontal_fov_deg=spec.horizontal_fov_deg,
        first_seed=config.first_seed,
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 4) for value in values]
