"""What training a VideoDiT costs: operations, counted on networks on the device `meta`, and memory of its state."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.dit.attention import FEW_KEYS
from model.dit.camera_inputs import camera_inputs
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.training.stage import StageConfig
from model.training.windows import WindowConfig


@dataclass(frozen=True)
class WindowCost:
    """Cost of one window of one clip.

    Attributes:
        tokens: Of its latent frames, context included.
        forward: Floating-point operations of an evaluation.
        training: Those of an evaluation and its gradients, recomputation included.
    """

    tokens: float
    forward: float
    training: float

    def combined(self, other: "WindowCost", share: float, own: float = 1.0) -> "WindowCost":
        """`own` times this one and `share` times the other."""
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return WindowCost(*(own * mine + share * theirs for mine, theirs in pairs))


@dataclass(frozen=True)
class WindowShape:
    """A window of one clip: latent frames, context included, of `rows` x `columns`, and the tokens of its text."""

    num_frames: int
    num_context: int
    rows: int
    columns: int
    text_tokens: int


def window_cost(config: VideoDiTConfig, window: WindowShape, gradient_checkpointing: str) -> WindowCost:
    """A network's cost of a window; `gradient_checkpointing`: one of `gradient_checkpointing.GRADIENT_CHECKPOINTING`.

    Networks of two and three blocks are run; every further block costs as much as the third. AC3D's branch, beside a
    third of the blocks, makes them unequal, so all are run.
    """
    if config.num_blocks < 3 or config.camera_injection == "ac3d":
        cost = _run(config, window, gradient_checkpointing)
    else:
        two, three = (_run(dataclasses.replace(config, num_blocks=n), window, gradient_checkpointing) for n in (2, 3))
        cost = three.combined(three.combined(two, -1.0), config.num_blocks - 3)
        cost = dataclasses.replace(cost, tokens=three.tokens)
    return _with_attention_kept(cost, config, window) if gradient_checkpointing == "selective" else cost


def _with_attention_kept(cost: WindowCost, config: VideoDiTConfig, window: WindowShape) -> WindowCost:
    """Corrects the cost by a formula: on `meta`, attention is not a single operation, so it was counted as recomputed.

    The last block leaves out the context's queries; of attention to the text nothing is kept below 33 tokens.
    """
    n, last = cost.tokens, cost.tokens * (1 - window.num_context / window.num_frames)
    queries = (config.num_blocks - 1) * n + last
    sources = [keys for keys in (n, window.text_tokens) if keys > FEW_KEYS]
    recomputed = sum(4 * queries * keys * config.width for keys in sources)
    return dataclasses.replace(cost, training=cost.training - recomputed)


def _run(config: VideoDiTConfig, window: WindowShape, gradient_checkpointing: str) -> WindowCost:
    frames, rows, columns = window.num_frames, window.rows, window.columns
    with torch.device("meta"):
        dit = VideoDiT(config)
        dit.gradient_checkpointing = gradient_checkpointing
        latents = torch.empty(1, config.in_channels, frames, rows, columns)
        t, text = torch.empty(1, frames), torch.empty(1, window.text_tokens, config.text_dim)
        mask = torch.empty(1, frames, dtype=torch.bool) if config.mask_channel else None
        poses, lens = torch.empty(1, frames, 4, 4), torch.empty(1, 4)
        cameras = camera_inputs(config, poses, lens, rows, columns, window.num_context)
        pt, ph, pw = config.patch_size
        num_tokens = frames // pt * (rows // ph) * (columns // pw)
        with FlopCounterMode(display=False) as counter:
            velocity = dit(latents, t, text, context_mask=mask, num_context=window.num_context, **cameras)
            forward = counter.get_total_flops()
            velocity.sum().backward()
    return WindowCost(num_tokens, forward, counter.get_total_flops())


def mean_window(
    config: VideoDiTConfig, windows: WindowConfig, grid: tuple[int, int], text_tokens: int, gradient_checkpointing: str
) -> tuple[WindowCost, WindowShape]:
    """The mean cost over the tasks of joint training, and the longest window; `grid`: rows and columns."""
    total, longest = WindowCost(0, 0, 0), WindowShape(0, 0, *grid, text_tokens)
    for (num_frames, num_context), share in _tasks(windows).items():
        window = WindowShape(num_frames, num_context, *grid, text_tokens)
        total = total.combined(window_cost(config, window, gradient_checkpointing), share)
        longest = max(longest, window, key=lambda each: each.num_frames)
    return total, longest


def _tasks(windows: WindowConfig) -> dict[tuple[int, int], float]:
    """Share of the clips in each kind of window (latent frames, context frames), as `WindowSampler` draws them."""
    whole, still = sum(windows.context_shares.values()), windows.single_latent_share
    tasks = {}
    for num_context, share in windows.context_shares.items():
        if num_context:
            tasks[num_context + windows.num_new, num_context] = share / whole
        else:
            tasks[1, 0], tasks[1 + windows.num_new, 0] = share * still / whole, share * (1 - still) / whole
    return {kind: share for kind, share in tasks.items() if share}


@dataclass(frozen=True)
class StateMemory:
    """Bytes of one process: weights, gradients, AdamW's two moments, average.

    `rounded`: parameters that are stored in bfloat16; `block`: parameters of one block.
    """

    parameters: int
    trained: int
    rounded: int = 0
    block: int = 0
    num_blocks: int = 0

    @property
    def weights(self) -> int:
        """Bytes of all weights."""
        return 4 * self.parameters - 2 * self.rounded

    def rows(self, is_bfloat16: bool = True, shares: int = 1, has_whole_gradients: bool = True) -> dict[str, int]:
        """Float32, except for frozen matrices and gathered blocks in bfloat16.

        Args:
            is_bfloat16: Products are computed in bfloat16.
            shares: Processes that the network is sharded over; 1: each has all of it.
            has_whole_gradients: If sharded, gradients of several batches are summed before they are reduced.
        """
        rows = {
            "weights": self.weights // shares,
            "gradients": 4 * self.trained // (1 if has_whole_gradients else shares),
            "AdamW": 8 * self.trained // shares,
            "average": 4 * self.trained // shares,
        }
        if shares > 1:
            size, trained = 2 if is_bfloat16 else 4, self.block * self.trained // self.parameters
            # the block that computes, the next one, and what the latter is gathered in; the rest is gathered once
            gathered = 3 * size * self.block + 4 * (self.parameters - self.num_blocks * self.block)
            # a block's gradients, and the same in float32 while they are reduced
            rows["weights and gradients on their way between processes"] = gathered + (size + 4) * trained
        return rows


def state_memory(dit: nn.Module) -> StateMemory:
    """Of a network, which may be on the meta device; frozen weights have neither gradients nor moments."""
    blocks = list(getattr(dit, "blocks", ()))
    return StateMemory(
        sum(parameter.numel() for parameter in dit.parameters()),
        sum(parameter.numel() for parameter in dit.parameters() if parameter.requires_grad),
        sum(parameter.numel() for parameter in dit.parameters() if parameter.dtype == torch.bfloat16),
        *((sum(parameter.numel() for parameter in blocks[0].parameters()), len(blocks)) if blocks else ()),
    )


def training_memory(dit: nn.Module, stage: StageConfig, num_processes: int) -> dict[str, int]:
    """Bytes of one of the processes that train a network with these settings, without a step's own results."""
    fit = stage.fit
    shares = num_processes if fit.shard is not False and not stage.optimizer.muon else 1
    return state_memory(dit).rows(
        is_bfloat16=fit.bfloat16 is not False,
        shares=shares,
        has_whole_gradients=shares == 1 or (fit.accumulation > 1 and not fit.reduce_every_batch),
    )
