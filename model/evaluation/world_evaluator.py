"""Measures a world against the oracle beyond PSNR per clip; each measure is a section of one report."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT, ClipSetConfig
from model.evaluation.camera_accuracy import CameraAccuracy, measure_camera
from model.evaluation.caption_colours import measure_caption_colours
from model.evaluation.consistency import measure_revisit, measure_stillness
from model.evaluation.fidelity import Regions, fidelity_per_clip, find_regions
from model.evaluation.motion import measure_motion
from model.evaluation.moves import MOVES, move, render_moves
from model.evaluation.objects import measure_objects
from model.evaluation.oracle import (
    Autoencoder,
    OracleResult,
    OracleScenes,
    fly,
    reconstruct,
    render_oracle_scenes,
)
from model.evaluation.perceptual import PerceptualDistance, require_lpips
from model.evaluation.prompts import ColourClassifier, measure_prompts
from model.evaluation.steadiness import measure_steadiness
from model.evaluation.true_scenes import film_true_scenes
from model.evaluation.truth import CameraTruth, SceneTruth
from model.evaluation.video_quality import psnr
from model.optional_dependency import require
from model.world.protocol import WorldModel

Section = dict[str, Any]


@dataclass(kw_only=True)
class EvaluationConfig:
    """Which sections to evaluate; sections that are off by default are slow or need the extra `evaluation`.

    Attributes:
        camera: Search the pose of every `camera_every`-th frame, and measure the search's floor on true frames.
        objects: How much of the picture objects cover and how sharp they are, generated / true, per clip.
        caption_colours: Whether every clip shows those of the caption's colours that the true camera sees.
        steadiness: How much an object's colour and size change within two frames; needs the extra `evaluation`.
        motion: Strength of the moving objects' motion, generated / true; needs the extra `evaluation`.
        kinds: Scenes for each kind of controlled single move (one clip each, `camera` measured); 0 leaves them out.
        revisit: Clips to fly out before coming back; 0 leaves it out.
        still: Clips to stand still for; 0 leaves it out.
        prompts: Start an episode from every scene's caption and look for the colours that it names.
        lpips: Add a row of LPIPS; needs the extra `lpips`, and AlexNet's weights.
        batch_size: Scenes that are flown at once.
    """

    camera: bool = False
    camera_every: int = FRAMES_PER_LATENT
    objects: bool = False
    caption_colours: bool = False
    steadiness: bool = False
    motion: bool = False
    kinds: int = 0
    revisit: int = 0
    still: int = 0
    prompts: bool = False
    lpips: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Checks the numbers and the packages before hours of evaluation begin.

        Raises:
            ValueError: a number is too small, or a needed package is missing.
        """
        for name, least in (("camera_every", 1), ("kinds", 0), ("revisit", 0), ("still", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.motion or self.steadiness:
            require("cv2", extra="evaluation")
        if self.lpips:
            require_lpips()

    def check_true_world(self, num_clips: int) -> None:
        """Checks that no section needs what only the renderer's scenes have; `num_clips` were filmed.

        Raises:
            ValueError: One does.
        """
        for name in ("objects", "caption_colours", "steadiness", "motion", "prompts"):
            if getattr(self, name):
                raise ValueError(
                    f"{name}: expected false beside truth, whose objects are not known and do not move, got true; "
                    "leave it out"
                )
        if self.revisit > num_clips:
            raise ValueError(
                f"revisit: expected at most {num_clips} beside truth, the clips whose path is known to be free, got "
                f"{self.revisit}; raise num_clips"
            )


@dataclass(frozen=True)
class EvaluationReport:
    """Sections by name, ready for JSON; `camera` is kept for plots."""

    sections: dict[str, Section]
    camera: CameraAccuracy | None = None

    def summary(self) -> dict[str, float]:
        """The figures that people compare; those that were not measured are absent."""
        places = {
            "rot_err_deg": ("camera", "generated", "rot_err_deg"),
            "trans_err_m": ("camera", "generated", "trans_err_m"),
            "trans_share": ("camera", "generated", "trans_share"),
            "rot_err_floor_deg": ("camera", "floor", "rot_err_deg"),
            "trans_err_floor_m": ("camera", "floor", "trans_err_m"),
            "camera_frames": ("camera", "generated", "frames"),
            "camera_solved": ("camera", "generated", "solved"),
            "motion_ratio": ("motion", "ratio"),
            "psnr_revisit": ("revisit", "psnr_returned"),
            "whole_prompts": ("prompts", "whole_prompts_generated"),
        }
        figures = {name: self.value(*place) for name, place in places.items()}
        for name in ("ssim", "psnr_known", "psnr_seen", "psnr_revealed"):
            figures[f"{name}_first_clip"] = self.sections["fidelity"][name][0]
        return {name: value for name, value in figures.items() if value is not None}

    def value(self, *path: str) -> float | None:
        """A number inside the sections, or None where it was not measured."""
        place: object = self.sections
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        return float(place) if isinstance(place, (int, float)) else None


class WorldEvaluator:
    """Evaluates one world on given scenes, section by section; a new measure is a method and a row in `evaluate`.

    Args:
        world: The world that is evaluated.
        autoencoder: The world's, if it has one: sections then also measure true frames through it, as a floor.
        clips: How `scenes` were rendered; single moves are rendered with the same settings.
        scenes: Held-out scenes.
        config: Which sections to evaluate.
        truths: What is known of each scene, if another world is the truth; None: what the renderer knows.

    Raises:
        ValueError: `camera_every` is larger than the number of frames, or a section needs the renderer's scenes.
    """

    def __init__(
        self,
        world: WorldModel,
        autoencoder: Autoencoder | None,
        clips: ClipSetConfig,
        scenes: OracleScenes,
        config: EvaluationConfig,
        truths: Sequence[CameraTruth] | None = None,
    ) -> None:
        if scenes.true_world is not None:
            config.check_true_world((scenes.poses.shape[1] - 1) // world.spec.poses_per_clip)
        self.world, self.autoencoder, self.clips, self.scenes, self.config = world, autoencoder, clips, scenes, config
        self.step = world.spec.frames_per_clip
        self.truths = scenes.truths() if truths is None else truths
        film = scenes.frames.shape[1] - 1
        for wanted, most, what in ((config.camera, film, "the films"), (config.kinds, self.step, "a single move")):
            if wanted and config.camera_every > most:
                raise ValueError(
                    f"camera_every: expected at most {most}, the frames of {what}, got {config.camera_every}; lower it"
                )
        self.lpips = PerceptualDistance() if config.lpips else None
        self.accuracy: CameraAccuracy | None = None

    def with_world(self, world: WorldModel) -> "WorldEvaluator":
        """An evaluator of another world of the same size on the same scenes, whose cached results it keeps."""
        other = copy.copy(self)
        other.world, other.accuracy = world, None
        return other

    def evaluate(self, result: OracleResult) -> EvaluationReport:
        """All sections that the configuration names; `result` holds the world's frames of the scenes."""
        config = self.config
        measures: dict[str, tuple[object, Callable[[Tensor], Section]]] = {
            "fidelity": (True, self.fidelity),
            "determinism": (True, self.determinism),
            "camera": (config.camera, self.camera),
            "objects": (config.objects, self.objects),
            "caption_colours": (config.caption_colours, self.caption_colours),
            "steadiness": (config.steadiness, self.steadiness),
            "motion": (config.motion, self.motion),
            "kinds": (config.kinds, lambda _: self.kinds()),
            "revisit": (config.revisit, lambda _: self.revisit()),
            "still": (config.still, lambda _: self.still()),
            "prompts": (config.prompts, lambda _: self.prompts()),
        }
        sections = {name: measure(result.generated) for name, (wanted, measure) in measures.items() if wanted}
        return EvaluationReport(sections, self.accuracy)

    @cached_property
    def poses(self) -> Float[Tensor, "n f 4 4"]:
        """The commanded pose of every frame."""
        return self.scenes.frame_poses()

    @cached_property
    def rebuilt(self) -> UInt8[Tensor, "n f h w 3"] | None:
        """The true frames through the autoencoder, if there is one."""
        return None if self.autoencoder is None else reconstruct(self.autoencoder, self.scenes, self.config.batch_size)

    @cached_property
    def regions(self) -> Regions:
        """Which true pixels were seen before their clip, are new, or move."""
        return find_regions(self.truths, self.poses, self.step)

    @cached_property
    def colour_classifier(self) -> ColourClassifier:
        """A classifier that knows how the renderer paints objects, at the scenes' size and lens."""
        return ColourClassifier.calibrated(self._scene_truths[0])

    @property
    def _scene_truths(self) -> list[SceneTruth]:
        return [truth for truth in self.truths if isinstance(truth, SceneTruth)]

    def fidelity(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """PSNR, SSIM and, if configured, LPIPS per clip over pixels seen before, newly revealed and moving."""
        return fidelity_per_clip(generated, self.scenes.frames, self.regions, self.step, self.lpips)

    def determinism(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Whether the first clip of the first batch is the same, bit for bit, when it is generated again."""
        rows = min(self.config.batch_size, len(self.truths))
        poses = self.scenes.poses[:rows, : 1 + self.world.spec.poses_per_clip]
        again = fly(self.world, self.scenes, poses, self.config.batch_size, "the first clip again")
        return {"repeats": bool(torch.equal(again, generated[:rows, : again.shape[1]])), "seeds": self.scenes.seeds}

    def camera(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Errors of the generated frames, and the floors."""
        num_clips = (generated.shape[1] - 1) // self.step
        floors = self.camera_floors
        self.accuracy = measure_camera(self.truths, generated, self.poses, every=self.config.camera_every)
        return {
            "every": self.config.camera_every,
            "generated": self.accuracy.summary(),
            **{name: floor.summary() for name, floor in floors.items()},
            "per_clip": self.accuracy.per_clip(num_clips, self.step),
            "floor_per_clip": floors["floor"].per_clip(num_clips, self.step),
            "per_scene": self.accuracy.record(),
        }

    @cached_property
    def camera_floors(self) -> dict[str, CameraAccuracy]:
        """Camera errors of true frames, and of true frames through the autoencoder (the cost of its blur)."""
        return self._camera_floors(self.truths, self.scenes, self.rebuilt)

    def _camera_floors(
        self, truths: Sequence[CameraTruth], scenes: OracleScenes, rebuilt: Tensor | None
    ) -> dict[str, CameraAccuracy]:
        films = {"floor": scenes.frames} | ({} if rebuilt is None else {"vae_floor": rebuilt})
        poses, every = scenes.frame_poses(), self.config.camera_every
        return {
            name: measure_camera(truths, film, poses, every=every, hide_pose=True, label=name)
            for name, film in films.items()
        }

    def objects(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Objects' share of the picture and their edges; `vae`: those of true frames through the autoencoder."""
        films = {"generated": generated} | ({} if self.rebuilt is None else {"vae": self.rebuilt})
        return measure_objects(self._scene_truths, films, self.scenes.frames, self.poses, self.step)

    def caption_colours(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Colours that the captions name, found in the clips; floors: true frames, and through the VAE."""
        films = {"generated": generated, "true": self.scenes.frames}
        films |= {} if self.rebuilt is None else {"vae": self.rebuilt}
        return measure_caption_colours(
            self.colour_classifier, self._scene_truths, self.scenes.captions, films, self.poses, self.step
        )

    def steadiness(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Change of the objects' colour and size within two frames; the floor: true frames, and through the VAE."""
        films = {"generated": generated, "true": self.scenes.frames}
        films |= {} if self.rebuilt is None else {"vae": self.rebuilt}
        return measure_steadiness(self._scene_truths, films, self.poses, self.step)

    def motion(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Strength of the objects' motion; `ratio_vae` is that of true frames through the autoencoder."""
        section: Section = measure_motion(self.truths, generated, self.poses, self.step).summary()
        if self.rebuilt is not None:
            section["ratio_vae"] = measure_motion(self.truths, self.rebuilt, self.poses, self.step).summary()["ratio"]
        return section

    def kinds(self) -> Section:
        """Every controlled move for one clip: PSNR, that of holding the first frame, camera errors and their floors."""
        section: Section = {}
        clips = replace(self.clips, num_latents=1 + self.world.spec.poses_per_clip)
        for kind in tqdm(MOVES, desc="single moves", unit="kind"):
            scenes, truths = self._moves(clips, kind)
            scenes = replace(scenes, with_caption=self.scenes.with_caption)
            generated = fly(self.world, scenes, scenes.poses, self.config.batch_size, kind)
            true, coder = scenes.frames, self.autoencoder
            rebuilt = None if coder is None else reconstruct(coder, scenes, self.config.batch_size)
            accuracy = measure_camera(truths, generated, scenes.frame_poses(), every=self.config.camera_every)
            floors = self._camera_floors(truths, scenes, rebuilt)
            section[kind] = {
                "psnr": round(float(psnr(generated[:, 1:], true[:, 1:]).mean()), 3),
                "psnr_hold": round(float(psnr(true[:, :1].expand_as(true)[:, 1:], true[:, 1:]).mean()), 3),
                "camera": accuracy.summary(),
                **{name: floor.summary() for name, floor in floors.items()},
            }
        return section

    def _moves(self, clips: ClipSetConfig, kind: str) -> tuple[OracleScenes, Sequence[CameraTruth]]:
        count, true_world = self.config.kinds, self.scenes.true_world
        if true_world is None:
            return render_moves(clips, kind, count)
        path = move(kind, clips.num_latents).c2w
        return film_true_scenes(true_world, self.world.spec, lambda _: (path, kind), clips.first_seed, count)

    def revisit(self) -> Section:
        """Flies out for some clips and back; see `measure_revisit`."""
        num_poses = 1 + self.config.revisit * self.world.spec.poses_per_clip
        poses = self.scenes.poses[:, :num_poses]
        if poses.shape[1] < num_poses:
            poses = render_oracle_scenes(replace(self.clips, num_latents=num_poses), len(self.truths)).poses
        visit = measure_revisit(self.world, self.scenes, self.truths, poses, self.config.batch_size)
        return visit.summary(self.config.revisit)

    def still(self) -> Section:
        """Stands still; see `measure_stillness`."""
        clips, size, motion = self.config.still, self.config.batch_size, self.config.motion
        return measure_stillness(self.world, self.scenes, self.truths, clips, size, with_motion=motion)

    def prompts(self) -> Section:
        """Starts episodes from the captions alone; see `measure_prompts`."""
        return measure_prompts(self.world, self.scenes, self.colour_classifier, self.config.batch_size).summary()
