"""`python -m model.cli.tables table=2|3|4|5 budget=laptop|gpu out=FOLDER`: the paper's tables on one base."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING, OmegaConf
from tqdm import tqdm

from configs.command_line import hydra_command
from model.build import TrainConfig
from model.checkpoint import load_component
from model.cli.train import train
from model.data.clips import ClipSetConfig
from model.data.synthetic.seeds import HELD_OUT_SEED
from model.dit.projective import num_projective_channels
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.evaluation.finished_rows import FinishedRows, Row
from model.evaluation.network_cost import network_cost
from model.evaluation.oracle import OracleScenes, fly, render_oracle_scenes
from model.evaluation.paper_table import measure_films, paper_table
from model.evaluation.truth import SceneTruth
from model.fingerprint import fingerprint
from model.training import run_folder
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.whole_file import write_text
from model.world.config import WorldConfig, read_world_config
from model.world.folder import world_fingerprint, world_folder
from model.world.load import load_world, save_world
from model.world.options import WorldOptions

Numbers = dict[str, dict[str, float]]


@dataclass(kw_only=True)
class TablesConfig:
    """`python -m model.cli.tables`.

    Attributes:
        out: Where everything is kept, arm by arm; the same command continues there.
        table: The paper's table.
        arms: What each arm changes in `train`; `dit` in it changes the network. The first is the paper's full method.
        paper: The paper's numbers of each arm.
        paper_reference: The paper's numbers of its full method to compare an arm with, if they are not the first arm's.
        only: Arms that are trained, besides the first; none: all.
        start: The world whose network, without its camera, every arm starts from.
        start_sampler: The sampler of that world whose network it is.
        num_seeds: Trainings of every arm, which differ in their data's order, their noise and their initial weights.
        num_scenes: Held-out scenes that every trained world is flown through.
        num_clips: Clips of each flight.
        batch_size: Scenes flown at once.
        train: The budget of every arm, as in `model.cli.train`.
    """

    out: str = MISSING
    table: str = MISSING  # text, so that `table=2` names a file of the group
    arms: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, Any] = field(default_factory=dict)
    paper_reference: dict[str, Any] = field(default_factory=dict)
    only: list[str] = field(default_factory=list)
    start: str = "tiny"
    start_sampler: str = "quality"
    num_seeds: int = 3
    num_scenes: int = 16
    num_clips: int = 2
    first_seed: int = HELD_OUT_SEED
    batch_size: int = 16
    train: TrainConfig = field(default_factory=lambda: TrainConfig(out=""))

    def __post_init__(self) -> None:
        for name in ("num_seeds", "num_scenes", "num_clips", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if unknown := set(self.only) - set(self.arms):
            raise ValueError(f"only: expected arms of this table, {list(self.arms)}, got {sorted(unknown)}")
        for name in ("out", "initial_world", "initial_dit", "initial_sampler", "vae", "seed"):
            if getattr(self.train, name) != getattr(TrainConfig(out=""), name):
                raise ValueError(f"train.{name}: expected none, every arm has its own; leave it out")


@dataclass(frozen=True)
class Arm:
    """One training: of an arm, with a seed; `dit` is what the arm changes in the network."""

    name: str
    seed: int
    folder: Path
    train: TrainConfig
    dit: dict[str, Any]


@dataclass(frozen=True)
class Start:
    """What all arms start from: a world's networks, and how it samples; `config` of the network without its camera."""

    dit: VideoDiT
    vae: VideoVAE
    world: WorldConfig
    config: VideoDiTConfig

    def clips(self, like: ClipSetConfig) -> ClipSetConfig:
        """These clips in the world's size, frame rate and field of view."""
        sizes = {name: getattr(self.world, name) for name in ("height", "width", "fps", "horizontal_fov_deg")}
        return dataclasses.replace(like, **sizes)

    def arm_config(self, arm: Arm) -> VideoDiTConfig:
        """The network of an arm, with its own camera injection. Raises ValueError: its changes do not fit."""
        return dataclasses.replace(self.config, **arm.dit)

    def write(self, arm: Arm) -> None:
        """Writes the world that an arm's training starts from; its new camera layer is zero."""
        torch.manual_seed(arm.seed)
        dit, camera = VideoDiT(self.arm_config(arm)), "camera_embedding."
        kept = {name: weight for name, weight in self.dit.state_dict().items() if not name.startswith(camera)}
        missing, surplus = dit.load_state_dict(kept, strict=False)
        assert not surplus and all(name.startswith(camera) for name in missing)
        save_world(arm.folder / "start", dit, self.vae, self.world, dtype=None)


def load_start(config: TablesConfig) -> Start:
    """Loads the world that a table names. Raises as `world_folder` and `load_component`."""
    folder = world_folder(config.start)
    world = read_world_config(folder)
    named = world.sampler_named(config.start_sampler)
    dit = load_component(folder / named.dit, VideoDiTConfig, VideoDiT)
    still = num_projective_channels(dit.config.head_dim) if dit.config.camera_attention else dit.config.still_channels
    plain: dict[str, Any] = {"camera": True, "camera_injection": "first", "camera_reference": "episode"}
    plain |= {"camera_attention": False, "still_channels": still, "camera_init_std": 0.0, "camera_frequencies": 0}
    return Start(
        dit=dit,
        vae=load_component(folder / "vae", VideoVAEConfig, VideoVAE),
        world=dataclasses.replace(world, sampler=named.sampler, opening=named.opening, samplers={}),
        config=dataclasses.replace(dit.config, **plain),
    )


def arms_of(config: TablesConfig, start: Start) -> list[Arm]:
    """All trainings of a table, seed by seed, so that a stopped run has compared all arms.

    Raises:
        ValueError: An arm's setting is unknown or invalid.
    """
    names = [name for index, name in enumerate(config.arms) if not config.only or name in config.only or index == 0]
    return [arm_of(config, start, name, seed) for seed in range(config.num_seeds) for name in names]


def arm_of(config: TablesConfig, start: Start, name: str, seed: int) -> Arm:
    """The settings of one training, on clips like the start's. Raises as `arms_of`."""
    changes = dict(config.arms[name] or {})
    dit = changes.pop("dit", {})
    folder = Path(config.out) / name / f"seed_{seed}"
    merged = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(config.train), changes))
    assert isinstance(merged, TrainConfig)
    data = dataclasses.replace(merged.data, clips=start.clips(merged.data.clips))
    if data.folder is None and data.render_into is None:  # arms with the same clips share them
        same = dataclasses.replace(data.clips, num_clips=0)
        data = dataclasses.replace(data, render_into=f"{config.out}/clips_{fingerprint(repr(same))[:8]}")
    train = dataclasses.replace(merged, out=str(folder), seed=seed, data=data, initial_world=str(folder / "start"))
    return Arm(name, seed, folder, train, dit)


def train_and_measure(
    config: TablesConfig, arm: Arm, start: Start, scenes: OracleScenes, truths: list[SceneTruth]
) -> Row:
    """Trains an arm, or resumes it, and measures its world."""
    start.write(arm)
    with run_folder.locked(arm.folder):
        folder = train(arm.train)
    world = load_world(folder, WorldOptions(device=arm.train.device))
    films = fly(world, scenes, scenes.poses, config.batch_size, f"flying {arm.name}")
    return measure_films(scenes, truths, films, world.spec.frames_per_clip)


def make_table(config: TablesConfig) -> str:
    """Trains and measures all arms, writes `table_N.json` and `table_N.md` after each seed; returns the table."""
    start = load_start(config)
    arms = arms_of(config, start)
    num_latents = 1 + config.num_clips * start.world.poses_per_clip
    clips = start.clips(
        ClipSetConfig(num_clips=config.num_scenes, num_latents=num_latents, first_seed=config.first_seed)
    )
    costs = {arm.name: cost_of(start, arm) for arm in arms}
    scenes = dataclasses.replace(render_oracle_scenes(clips, config.num_scenes), with_caption=True)
    truths, finished = scenes.truths(), FinishedRows(Path(config.out) / "rows")
    origin = f"{world_fingerprint(config.start)} {config.start_sampler} {clips} {config.num_clips}"
    rows: dict[str, list[Row]] = {}
    table = ""
    for arm in tqdm(arms, desc=f"table {config.table}", unit="training"):
        made_from = f"{origin} {dataclasses.replace(arm.train, num_threads=0, device='')} {arm.dit}"
        row = finished.row(
            made_from,
            lambda arm=arm: train_and_measure(config, arm, start, scenes, truths),  # type: ignore[misc]
        )
        rows.setdefault(arm.name, []).append(row)
        if len({len(seeds) for seeds in rows.values()}) == 1 and len(rows) == len(costs):
            table = paper_table(rows, config.paper, config.paper_reference, costs)
            result = {"rows": rows, "config": dataclasses.asdict(config)}
            out = Path(config.out) / f"table_{config.table}"
            write_text(out.with_suffix(".json"), json.dumps(result, indent=1, allow_nan=False))
            write_text(out.with_suffix(".md"), table)
    return table


def cost_of(start: Start, arm: Arm) -> str:
    """Weights of the camera injection, and GFLOP of one evaluation for four new latents after four of context."""
    stride, world = start.vae.spatial_stride, start.world
    cost = network_cost(start.arm_config(arm), world.height // stride, world.width // stride, 4, world.poses_per_clip)
    return f"{cost.camera_parameters:,}, {cost.gflops:.2f}"


def run(config: TablesConfig) -> None:
    """Runs the command line: `python -m model.cli.tables --help`."""
    print(make_table(config))
    print(f"written: {config.out}/table_{config.table}.md {config.out}/table_{config.table}.json")


main = hydra_command("configs.tables", "config", TablesConfig, run)


if __name__ == "__main__":
    main()
