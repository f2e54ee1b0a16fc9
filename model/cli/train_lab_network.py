"""`python -m model.cli.train_lab_network`: the network behind `frechet_lab` and `lab_consistency`, in minutes."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch

from configs.command_line import hydra_command
from model.checkpoint import load_meta, save_component
from model.evaluation.paper.lab_network import LabNetwork, LabNetworkConfig
from model.evaluation.paper.lab_training import (
    LabBatches,
    LabClipsConfig,
    centre_frame_features,
    held_out_accuracy,
    lab_step,
    render_named_clips,
    split,
)
from model.training import run_folder
from model.training.loop import fit
from model.training.stage import StageConfig, adamw_stage, train_state


@dataclass(kw_only=True)
class TrainLabNetworkConfig:
    """`python -m model.cli.train_lab_network`."""

    out: str = "runs/lab_network"
    seed: int = 0
    device: str = "cpu"
    num_threads: int = 1
    clips: LabClipsConfig = field(default_factory=LabClipsConfig)
    network: LabNetworkConfig = field(default_factory=LabNetworkConfig)
    training: StageConfig = field(default_factory=adamw_stage)


def train_lab_network(config: TrainLabNetworkConfig) -> Path:
    """Runs (or resumes) the whole stage; returns the folder of the finished network, `out/network`."""
    torch.set_num_threads(config.num_threads)
    torch.manual_seed(config.seed)
    run_folder.check_settings(config.out, config)
    trained, held_out = split(render_named_clips(config.clips, config.network))
    state = train_state(LabNetwork(config.network).to(config.device), config.training, config.seed)
    run_folder.keep_settings(config.out, config)
    batches = LabBatches(trained, config.training.batch_size, config.seed)
    num_steps = config.training.num_steps
    fit(lab_step, state, batches, num_steps=num_steps, config=config.training.fit, folder=Path(config.out))
    assert state.ema is not None
    with state.ema.applied_to(state.module) as module:
        assert isinstance(module, LabNetwork)
        centre_frame_features(module, held_out)
        meta = {
            "steps": state.step,
            "minutes": round(state.elapsed_seconds / 60, 1),
            "clips": len(trained.frames),
            **held_out_accuracy(module, held_out),
        }
        save_component(Path(config.out) / "network", module, config.network, meta, torch.float16)
    return Path(config.out) / "network"


def run(config: TrainLabNetworkConfig) -> None:
    """Runs the command line: `python -m model.cli.train_lab_network --help`."""
    with run_folder.locked(config.out):
        folder = train_lab_network(config)
        print(f"written: {folder} ({json.dumps(load_meta(folder))})")


main = hydra_command("configs", "train_lab_network", TrainLabNetworkConfig, run)


if __name__ == "__main__":
    main()
