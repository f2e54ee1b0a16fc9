"""Everything the oracle can tell about a world beyond PSNR per clip, as sections of one report."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import UInt8
from torch import Tensor
from tqdm import tqdm

from model.data.clips import FRAMES_PER_LATENT, ClipSetConfig
from model.evaluation.camera_accuracy import CameraAccuracy, measure_camera
from model.evaluation.consistency import measure_revisit, measure_stillness
from model.evaluation.fidelity import fidelity_per_clip, find_regions
from model.evaluation.motion import measure_motion, require_flow
from model.evaluation.moves import MOVES, render_moves
from model.evaluation.objects import measure_objects
from model.evaluation.oracle import Autoencoder, OracleResult, OracleScenes, fly, render_oracle_scenes
from model.evaluation.perceptual import PerceptualDistance, require_lpips
from model.evaluation.prompts import measure_prompts
from model.evaluation.truth import SceneTruth
from model.evaluation.video_quality import psnr
from model.world.protocol import WorldModel

Section = dict[str, object]


@dataclass(kw_only=True)
class EvaluationConfig:
    """Which sections to evaluate; what is off by default is slow or needs the extra `evaluation`.

    Attributes:
        camera: Search the pose of every `camera_every`-th frame, and measure the search's floor on true frames.
        objects: How much of the picture objects cover and how sharp they are, generated / true, per clip.
        motion: Strength of the moving objects' motion, generated / true; needs the extra `evaluation`.
        kinds: Scenes for each kind of controlled single move (one clip each, `camera` measured); 0 leaves them out.
        revisit: Clips to fly out before coming back; 0 leaves it out.
        still: Clips to stand still for; 0 leaves it out.
        prompts: Open an episode from every scene's caption and look for the colours that it names.
        lpips: A row of LPIPS; needs the extra `lpips`, and AlexNet's weights.
        batch_size: Scenes that are flown at once.
    """

    camera: bool = False
    camera_every: int = FRAMES_PER_LATENT
    objects: bool = False
    motion: bool = False
    kinds: int = 0
    revisit: int = 0
    still: int = 0
    prompts: bool = False
    lpips: bool = False
    batch_size: int = 16

    def __post_init__(self) -> None:
        """Checks the numbers, and that packages are there before hours have been spent.

        Raises:
            ValueError: a number is negative, or a package is missing and wanted.
        """
        for name, least in (("camera_every", 1), ("kinds", 0), ("revisit", 0), ("still", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.motion:
            require_flow()
        if self.lpips:
            require_lpips()


@dataclass
class EvaluationReport:
    """Sections by name, ready for JSON; `camera` is kept for plots."""

    sections: dict[str, Section] = field(default_factory=dict)
    camera: CameraAccuracy | None = None

    def summary(self) -> dict[str, float]:
        """The figures that people compare; absent where they were not measured."""
        figures = {
            name: self.value(*path)
            for name, path in {
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
            }.items()
        }
        for name in ("ssim", "psnr_known", "psnr_seen", "psnr_revealed"):
            values = self.sections["fidelity"][name]
            figures[f"{name}_first_clip"] = values[0] if isinstance(values, list) else None
        return {name: value for name, value in figures.items() if value is not None}

    def value(self, *path: str) -> float | None:
        """A number inside the sections, or None where it was not measured."""
        place: object = self.sections
        for name in path:
            if not isinstance(place, dict) or name not in place:
                return None
            place = place[name]
        return float(place) if isinstance(place, (int, float)) else None


class WorldEvaluator:
    """Evaluates one world on given scenes, section by section.

    Args:
        world: The world that is evaluated.
        autoencoder: Of the world, if it has one: the floor of the camera search through its eyes is measured too.
        clips: How `scenes` were rendered; other moves are rendered alike.
        scenes: Held-out scenes.
        config: Which sections to evaluate.

    Raises:
        ValueError: The camera is to be measured more rarely than there are frames.
    """

    def __init__(
        self,
        world: WorldModel,
        autoencoder: Autoencoder | None,
        clips: ClipSetConfig,
        scenes: OracleScenes,
        config: EvaluationConfig,
    ) -> None:
        self.world, self.autoencoder, self.clips, self.scenes, self.config = world, autoencoder, clips, scenes, config
        self.step = world.spec.frames_per_clip
        self.truths: list[SceneTruth] = scenes.truths()
        self._check_camera_every()
        self.lpips = PerceptualDistance() if config.lpips else None

    def _check_camera_every(self) -> None:
        """Now, not when all flights are over."""
        film = self.scenes.frames.shape[1] - 1
        measured = ((self.config.camera, film, "the films"), (self.config.kinds > 0, self.step, "a single move"))
        for wanted, most, what in measured:
            if wanted and self.config.camera_every > most:
                raise ValueError(
                    f"camera_every: expected at most {most}, the frames of {what}, got {self.config.camera_every}; "
                    "lower it"
                )

    def evaluate(self, result: OracleResult) -> EvaluationReport:
        """All sections asked for; `result` holds what the world generated on the scenes."""
        found = EvaluationReport()
        found.sections["fidelity"] = dict(self.fidelity(result.generated))
        found.sections["determinism"] = self.determinism(result.generated)
        if self.config.camera:
            found.sections["camera"], found.camera = self.camera(result.generated)
        if self.config.objects:
            found.sections["objects"] = self.objects(result.generated)
        if self.config.motion:
            found.sections["motion"] = self.motion(result.generated)
        if self.config.kinds:
            found.sections["kinds"] = self.kinds()
        if self.config.revisit:
            found.sections["revisit"] = self.revisit()
        if self.config.still:
            found.sections["still"] = self.still()
        if self.config.prompts:
            found.sections["prompts"] = dict(measure_prompts(self.world, self.scenes, self.config.batch_size).summary())
        return found

    def fidelity(self, generated: UInt8[Tensor, "n f h w 3"]) -> dict[str, list[float | None]]:
        """PSNR, SSIM and, where wanted, LPIPS per clip over pixels seen before, newly revealed and moving."""
        regions = find_regions(self.truths, self.scenes.frame_poses(), self.step)
        return fidelity_per_clip(generated, self.scenes.frames, regions, self.step, self.lpips)

    def determinism(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Whether the first clip of the first batch comes out the same, bit for bit, a second time."""
        rows = min(self.config.batch_size, len(self.truths))
        poses = self.scenes.poses[:rows, : 1 + self.world.spec.poses_per_clip]
        again = fly(self.world, self.scenes, poses, self.config.batch_size, "the first clip again")
        return {"repeats": bool(torch.equal(again, generated[:rows, : again.shape[1]])), "seeds": self.scenes.seeds}

    def camera(self, generated: UInt8[Tensor, "n f h w 3"]) -> tuple[Section, CameraAccuracy]:
        """Errors of the generated frames; the floor: of true frames, and of true frames through the autoencoder."""
        poses, every = self.scenes.frame_poses(), self.config.camera_every
        num_clips = (generated.shape[1] - 1) // self.step
        accuracy = measure_camera(self.truths, generated, poses, every=every)
        floor = measure_camera(self.truths, self.scenes.frames, poses, every=every, hide_pose=True, label="the floor")
        section: Section = {
            "every": every,
            "generated": accuracy.summary(),
            "floor": floor.summary(),
            "per_clip": accuracy.per_clip(num_clips, self.step),
            "floor_per_clip": floor.per_clip(num_clips, self.step),
            "per_scene": accuracy.record(),
        }
        if self.autoencoder is not None:
            section["vae_floor"] = self.vae_floor(self.autoencoder, self.truths, self.scenes).summary()
        return section, accuracy

    def vae_floor(
        self, autoencoder: Autoencoder, truths: list[SceneTruth], scenes: OracleScenes, label: str = "VAE's floor"
    ) -> CameraAccuracy:
        """Errors of true frames through the autoencoder: what its blur alone costs the search."""
        poses, every = scenes.frame_poses(), self.config.camera_every
        rebuilt = self._rebuilt(autoencoder, scenes)
        return measure_camera(truths, rebuilt, poses, every=every, hide_pose=True, label=label)

    def _rebuilt(self, autoencoder: Autoencoder, scenes: OracleScenes) -> UInt8[Tensor, "n f h w 3"]:
        parts = scenes.frames.split(self.config.batch_size)
        return torch.cat([autoencoder.reconstruct(part).cpu() for part in parts])

    def objects(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Objects' share of the picture and their edges; `vae` is that of true frames through the autoencoder."""
        films = {"generated": generated}
        if self.autoencoder is not None:
            films["vae"] = self._rebuilt(self.autoencoder, self.scenes)
        return measure_objects(self.truths, films, self.scenes.frames, self.scenes.frame_poses(), self.step)

    def motion(self, generated: UInt8[Tensor, "n f h w 3"]) -> Section:
        """Strength of the objects' motion; `ratio_vae` is that of true frames through the autoencoder."""
        poses = self.scenes.frame_poses()
        section: Section = dict(measure_motion(self.truths, generated, poses, self.step).summary())
        if self.autoencoder is not None:
            rebuilt = self._rebuilt(self.autoencoder, self.scenes)
            section["ratio_vae"] = measure_motion(self.truths, rebuilt, poses, self.step).summary()["ratio"]
        return section

    def kinds(self) -> Section:
        """Every controlled move for one clip: PSNR against holding the first frame, camera errors and their floor."""
        section: Section = {}
        for kind in tqdm(MOVES, desc="single moves", unit="kind"):
            clips = ClipSetConfig(**{**vars(self.clips), "num_latents": 1 + self.world.spec.poses_per_clip})
            scenes, truths = render_moves(clips, kind, self.config.kinds)
            scenes = replace(scenes, with_caption=self.scenes.with_caption)
            generated = fly(self.world, scenes, scenes.poses, self.config.batch_size, kind)
            poses, every, true = scenes.frame_poses(), self.config.camera_every, scenes.frames
            entry: Section = {
                "psnr": round(float(psnr(generated[:, 1:], true[:, 1:]).mean()), 3),
                "psnr_hold": round(float(psnr(true[:, :1].expand_as(true)[:, 1:], true[:, 1:]).mean()), 3),
                "camera": measure_camera(truths, generated, poses, every=every, label=kind).summary(),
                "floor": measure_camera(truths, true, poses, every=every, hide_pose=True, label="floor").summary(),
            }
            if self.autoencoder is not None:
                entry["vae_floor"] = self.vae_floor(self.autoencoder, truths, scenes, kind).summary()
            section[kind] = entry
        return section

    def revisit(self) -> Section:
        """Out for some clips and back."""
        num_poses = 1 + self.config.revisit * self.world.spec.poses_per_clip
        poses = self.scenes.poses[:, :num_poses]
        if poses.shape[1] < num_poses:
            longer = ClipSetConfig(**{**vars(self.clips), "num_latents": num_poses})
            poses = render_oracle_scenes(longer, len(self.truths)).poses
        visit = measure_revisit(self.world, self.scenes, self.truths, poses, self.config.batch_size)
        return dict(visit.summary(self.config.revisit))

    def still(self) -> Section:
        """Standing still."""
        return measure_stillness(
            self.world,
            self.scenes,
            self.truths,
            self.config.still,
            self.config.batch_size,
            with_motion=self.config.motion,
        ).summary()
