"""A network whose weights, gradients and moments are sharded over all processes: torch's FSDP2 (`fully_shard`).

Every parameter is a `DTensor`, of which each process has its share. A block's shares are gathered while it computes.
A single process never imports `DTensor`, which takes seconds, so that sharded modules are recognised by their methods.
"""

import copy
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from model.dit.context_parallel import TokenSplit
from model.dit.video_dit import VideoDiT
from model.training import distributed
from model.training.precision import to_training, training_dtype


def is_sharded(module: nn.Module) -> bool:
    """Whether the module is sharded over all processes."""
    return hasattr(module, "set_requires_gradient_sync")


def shard(module: nn.Module, device: torch.device, is_bfloat16: bool) -> nn.Module:
    """Shards the module: this process keeps its share on its device, in the types of `training_dtype`.

    Gradients are added in float32. One block at a time goes to the device, so that a module that is mapped from a file
    is never whole in memory. Returns the same module on the device `meta`, for `gather`.

    Args:
        module: It has `blocks`, which are gathered one by one, and is the same on each process.
        device: Of this process.
        is_bfloat16: Blocks compute with copies of their weights in bfloat16, made before they are gathered.

    Raises:
        ValueError: The module has no blocks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    blocks = blocks_of(module, "shard")
    whole = _without_numbers(module, is_bfloat16)
    mesh = init_device_mesh(device.type, (distributed.world_size(),))
    # inputs stay as they are: cameras and times must not be rounded; autocast rounds what is multiplied
    exact = MixedPrecisionPolicy(cast_forward_inputs=False)
    rounded = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in blocks:
        fully_shard(to_training(block, device, is_bfloat16), mesh=mesh, mp_policy=rounded if is_bfloat16 else exact)
    to_training(module, device, is_bfloat16)
    fully_shard(module, mesh=mesh, mp_policy=exact)
    return whole


def share_windows(module: nn.Module, device: torch.device, size: int) -> None:
    """Context parallelism: processes share the tokens of their windows, `size` of them that follow each other.

    They must draw the same batches. FSDP2's mean over all processes then makes the gradients those of one process.

    Args:
        module: A sharded `VideoDiT`.
        device: Of this process.
        size: A divisor of the number of processes.

    Raises:
        ValueError: The module's heads do not divide, or its camera layer cannot be split.
    """
    from torch.distributed.device_mesh import init_device_mesh

    shape = (distributed.world_size() // size, size)
    mesh = init_device_mesh(device.type, shape, mesh_dim_names=("data", "context"))
    split = TokenSplit(mesh.get_group("context").group_name, mesh.get_local_rank("context"), size)
    cast(VideoDiT, module).split_tokens(split)


def blocks_of(module: nn.Module, setting: str) -> list[nn.Module]:
    """The repeated parts of a network. Raises ValueError, which names the setting that needs them, without any."""
    blocks = getattr(module, "blocks", None)
    if not isinstance(blocks, nn.ModuleList):
        raise ValueError(f"{setting}: expected a network with blocks, got {type(module).__name__}; leave it out")
    return list(blocks)


def gather(tensors: Iterable[tuple[str, Tensor]], whole: nn.Module, device: torch.device) -> nn.Module | None:
    """A separate module with these tensors, on process 0; None on the others, which must call this, too.

    Args:
        tensors: Its state, by name; the same names in the same order on every process.
        whole: What `shard` returned.
        device: Of that module.
    """
    module = copy.deepcopy(whole).to_empty(device=device) if distributed.is_main() else None
    own = module.state_dict() if module is not None else {}
    for name, tensor in tensors:
        value = _whole(tensor)
        if module is not None:
            own[name].copy_(value)
    return module


def local_shard(own: Tensor, value: Tensor) -> Tensor:
    """This process's share of a whole tensor, split as `own` is; the tensor itself if `own` is not sharded."""
    if not hasattr(own, "full_tensor"):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(own, DTensor)
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def clip_gradients(parameters: Iterable[Tensor], limit: float) -> float:
    """As `nn.utils.clip_grad_norm_`, over all processes' shares; returns the norm."""
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    return float(_whole(norm))


def save(tensors: dict[str, Tensor], folder: str) -> None:
    """Writes named tensors, whole or sharded, as safetensors; every process writes its own shares."""
    import torch.distributed.checkpoint.state_dict_saver as saver
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    saver.save(tensors, storage_writer=HuggingFaceStorageWriter(folder, save_distributed=True))


@torch.no_grad()
def load(folder: Path, places_for: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Reads what any number of processes saved.

    Args:
        folder: What `save` wrote.
        places_for: Gets the saved tensors, without numbers, and returns the tensors to fill.

    Raises:
        ValueError: A file is damaged, or `places_for` raises it.
    """
    import torch.distributed.checkpoint.state_dict_loader as loader
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    reader, saved = HuggingFaceStorageReader(str(folder)), {}
    for name, entry in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(entry, TensorStorageMetadata)
        if sum(chunk.sizes.numel() for chunk in entry.chunks) != entry.size.numel():  # which torch would not notice
            raise ValueError(f"{folder}: expected all shares of {name}, got some; one of its files is missing")
        saved[name] = torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
    places = places_for(saved)
    with warnings.catch_warnings():  # one process reads alone on purpose
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        try:
            loader.load(places, storage_reader=reader)
        except CheckpointException as error:
            raise ValueError(f"{folder}: expected a whole checkpoint, got a damaged one ({error!r:.200})") from error


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _without_numbers(module: nn.Module, is_bfloat16: bool) -> nn.Module:
    """A copy on the device `meta`."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta", training_dtype(name, p, is_bfloat16)), p.requires_grad)
        for name, p in module.named_parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in module.buffers()}
    return copy.deepcopy(module, memo)
