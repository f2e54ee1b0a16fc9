"""Networks whose windows are shared by processes, which test_context_parallel.py also computes in one process."""

import dataclasses
import importlib.util
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from model.dit.camera_inputs import camera_inputs
from model.dit.context_parallel import TokenSplit
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training import distributed

SHAPE = VideoDiTConfig(
    in_channels=4, out_channels=4, width=64, num_heads=4, num_blocks=3, ffn_dim=128, text_dim=8, freq_dim=8,
)  # fmt: skip
NETWORKS: dict[str, dict[str, Any]] = {
    "first": {},
    "every": {"camera_injection": "every"},
    "motionctrl": {"camera_injection": "motionctrl"},
    "cameractrl": {"camera_injection": "cameractrl"},
    "in attention": {"camera_attention": True, "patch_size": [1, 1, 1], "mask_channel": False},
}
FRAMES, CONTEXT, ROWS, COLUMNS = 4, 2, 6, 12


class KeptTensors:
    """Counts what autograd keeps, each storage once, without the parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._seen = {parameter.untyped_storage()._cdata for parameter in parameters}
        self._kept: list[Tensor] = []  # alive, so that no two storages get one address
        self.num_bytes = 0

    def pack(self, tensor: Tensor) -> Tensor:
        """Notes a tensor that is kept."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen.add(storage._cdata)
            self._kept.append(tensor)
            self.num_bytes += storage.nbytes()
        return tensor


def computed(
    network: str, split: TokenSplit | None = None, checkpointing: str = "none"
) -> tuple[dict[str, Tensor], int]:
    """The velocity and all gradients of a squared error; and the bytes that were kept for the gradients."""
    config = dataclasses.replace(SHAPE, **NETWORKS[network])
    torch.manual_seed(3)
    dit = VideoDiT(config)
    for parameter in dit.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    dit.gradient_checkpointing = checkpointing
    if split is not None:
        dit.split_tokens(split)
    c2w = torch.eye(4).expand(2, FRAMES, 4, 4).clone()
    c2w[..., :3, 3] = 0.2 * torch.randn(2, FRAMES, 3)
    lens, t = torch.tensor([[0.6, 1.0, 0.5, 0.5]] * 2), torch.rand(2, FRAMES)
    latents, text = torch.randn(2, 4, FRAMES, ROWS, COLUMNS), torch.randn(2, 5, 8)
    mask = torch.arange(FRAMES).expand(2, FRAMES) < CONTEXT if config.mask_channel else None
    cameras = camera_inputs(config, c2w, lens, ROWS, COLUMNS, CONTEXT)
    kept = KeptTensors(dit.parameters())
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        velocity = dit(latents, t, text, context_mask=mask, num_context=CONTEXT, **cameras)
    (velocity - 1).square().mean().backward()
    named = dict(dit.named_parameters()).items()
    gradients = {name: distributed.all_reduce_mean(p.grad) for name, p in named if p.grad is not None}
    return {"velocity": velocity.detach().contiguous(), **gradients}, kept.num_bytes


def sharded_run() -> ModuleType:
    """The training of test_sharding.py."""
    spec = importlib.util.spec_from_file_location("sharded_run", Path(__file__).with_name("sharded_run.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(folder: Path, context_parallel: int) -> None:
    """All networks by all processes as one group; then trainings of the sharded network."""
    torch.set_num_threads(1)
    distributed.start()
    run = sharded_run()
    if context_parallel == distributed.world_size():
        assert dist.group.WORLD is not None
        split, kept = TokenSplit(dist.group.WORLD.group_name, distributed.rank(), distributed.world_size()), {}
        for network in NETWORKS:
            tensors, kept[network] = computed(network, split)
            run.save(tensors, folder / f"{network}.safetensors")
        for checkpointing in ("selective", "full"):
            tensors, kept[checkpointing] = computed("first", split, checkpointing)
            run.save(tensors, folder / f"{checkpointing}.safetensors")
        if distributed.is_main():
            (folder / "kept.json").write_text(json.dumps(kept))
    settings = {"shard": True, "context_parallel": context_parallel, "gradient_checkpointing": "full"}
    state = run.train(folder / "run", **settings)
    run.save(run.average(state), folder / "average.safetensors")
    compiled = {**settings, "compile": "aot_eager", "gradient_checkpointing": "selective"}
    run.train(folder / "compiled", num_steps=2, **compiled)
    run.train(folder / "bfloat16", num_steps=2, **settings, bfloat16=True)
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stderr.flush()
    os._exit(0)  # as in two_processes.py
