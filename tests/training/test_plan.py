"""Plans: operations and memory agree with what a real run does."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from model.cli.plan import PlanConfig, networks, plan
from model.dit.camera_injection import INJECTIONS
from model.dit.gradient_checkpointing import GRADIENT_CHECKPOINTING
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.evaluation.network_cost import network_cost
from model.text.umt5 import load_umt5
from model.training.flow_matching_step import FlowMatchingConfig, FlowMatchingStep
from model.training.lora import LoRAConfig, add_lora
from model.training.plan import WindowShape, state_memory, window_cost
from model.training.precision import to_training
from model.training.step_memory import step_bytes
from model.training.windows import LatentBatch

SHAPE = VideoDiTConfig(width=256, num_heads=4, num_blocks=5, ffn_dim=512, text_dim=32, freq_dim=16)
WINDOW = WindowShape(num_frames=6, num_context=2, rows=24, columns=32, text_tokens=40)
NUM_TOKENS = 6 * 12 * 16


def test_the_blocks_that_are_not_run_cost_as_much_as_those_that_are() -> None:
    cost = window_cost(SHAPE, WINDOW, "none")
    short = [window_cost(dataclasses.replace(SHAPE, num_blocks=n), WINDOW, "none") for n in (3, 4)]
    assert cost.tokens == NUM_TOKENS
    for name in ("forward", "training"):
        third, fourth = (getattr(each, name) for each in short)
        assert getattr(cost, name) == pytest.approx(2 * fourth - third)


@pytest.mark.parametrize("injection", INJECTIONS)
def test_every_way_of_the_camera_is_counted(injection: str) -> None:
    small = dataclasses.replace(SHAPE, camera_injection=injection)
    cost, counted = window_cost(small, WINDOW, "none"), network_cost(small, 24, 32, 2, 4)
    text = 4 * (24 - WINDOW.text_tokens) * (SHAPE.num_blocks * SHAPE.width * (SHAPE.width + NUM_TOKENS))  # of 24 words
    assert cost.forward == pytest.approx(counted.gflops * 1e9 - text, rel=1e-2)


def test_operations_are_those_of_the_formula() -> None:
    wide = dataclasses.replace(SHAPE, num_blocks=30)
    n, m, d, f = NUM_TOKENS, WINDOW.text_tokens, wide.width, wide.ffn_dim
    # self-attention, attention to the text, feed-forward network; the last block leaves out the context's tokens
    block = 8 * n * d * d + 4 * n * n * d + 4 * n * d * d + 4 * m * d * d + 4 * n * m * d + 4 * n * d * f
    assert window_cost(wide, WINDOW, "none").forward == pytest.approx(30 * block, rel=0.02)
    once, twice = window_cost(wide, WINDOW, "none"), window_cost(wide, WINDOW, "full")
    assert once.training == pytest.approx(3 * once.forward, rel=0.02)
    assert twice.training == pytest.approx(4 * once.forward, rel=0.02)


@pytest.mark.parametrize("is_bfloat16", [False, True])
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("gradient_checkpointing", GRADIENT_CHECKPOINTING)
def test_a_step_takes_the_memory_that_is_planned(
    gradient_checkpointing: str, rank: int, is_bfloat16: bool, peak: Any
) -> None:
    dit = network_of(SHAPE, gradient_checkpointing, rank, is_bfloat16)
    windows = FlowMatchingConfig(context_shares={2: 1.0}, num_new=4, reference_jitter=0.0)
    step_fn = FlowMatchingStep(windows, torch.zeros(WINDOW.text_tokens, 32), dit=SHAPE)
    batch = LatentBatch(
        torch.randn(1, 16, 6, 24, 32), torch.eye(4).expand(1, 6, 4, 4), torch.tensor([[0.6, 1.0, 0.5, 0.5]]),
        torch.randn(1, WINDOW.text_tokens, 32), torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    with peak(dit) as counted:
        for _ in range(2):  # gradients of the first are there during the second
            with torch.autocast("cpu", torch.bfloat16, is_bfloat16):
                loss, _ = step_fn(dit, batch, torch.Generator().manual_seed(0))
            loss.backward()
            del loss
    with torch.device("meta"):
        same = network_of(SHAPE, gradient_checkpointing, rank, is_bfloat16)
    gradients = state_memory(same).rows()["gradients"]
    planned = gradients + step_bytes(same, WINDOW, 1, is_bfloat16)
    assert counted.peak == pytest.approx(planned, rel=0.05)


def test_blocks_that_are_gathered_in_bfloat16_need_no_copies() -> None:
    with torch.device("meta"):
        dit = network_of(SHAPE, "none", 0, False)
    copies = 2 * sum(p.numel() for p in dit.blocks.parameters() if p.ndim > 1)
    whole, shared = step_bytes(dit, WINDOW, 1, True), step_bytes(dit, WINDOW, 1, True, is_sharded=True)
    assert whole - shared == pytest.approx(copies, rel=0.1)
    assert {parameter.dtype for parameter in dit.parameters()} == {torch.float32}


def network_of(shape: VideoDiTConfig, gradient_checkpointing: str, rank: int, is_bfloat16: bool) -> VideoDiT:
    dit = VideoDiT(shape)
    dit.gradient_checkpointing = gradient_checkpointing
    dit = add_lora(dit, LoRAConfig(rank=rank)) if rank else dit
    to_training(dit, next(dit.parameters()).device, is_bfloat16)
    return dit


def test_attention_that_is_kept_is_not_computed_again() -> None:
    once, all_again, most = (window_cost(SHAPE, WINDOW, kind) for kind in ("none", "full", "selective"))
    n, d, blocks = NUM_TOKENS, SHAPE.width, SHAPE.num_blocks
    attention = (
        4 * n * (n + WINDOW.text_tokens) * d * (blocks - 1 + 4 / 6)
    )  # the last block leaves out two frames of queries of six
    assert once.training < most.training == all_again.training - attention
    kinds = [network_of(SHAPE, kind, 0, False) for kind in ("none", "full", "selective")]
    kept, least, little = (step_bytes(dit, WINDOW, 1, False) for dit in kinds)
    assert least < little < 0.5 * kept


def test_frozen_parameters_have_no_moments() -> None:
    layer = torch.nn.Sequential(torch.nn.Linear(10, 10, bias=False), torch.nn.Linear(10, 5, bias=False))
    layer[0].requires_grad_(False)
    rows = state_memory(layer).rows()
    assert rows["weights"] == 4 * 150 and rows["AdamW"] == 8 * 50 and rows["gradients"] == 4 * 50


def test_a_network_in_shares_leaves_every_process_its_part_and_two_blocks() -> None:
    with torch.device("meta"):
        dit = VideoDiT(SHAPE)
    block = sum(p.numel() for p in dit.blocks[0].parameters())
    memory, num = state_memory(dit), sum(p.numel() for p in dit.parameters())
    whole, shared = memory.rows(), memory.rows(shares=4, has_whole_gradients=False)
    for name in ("weights", "gradients", "AdamW", "average"):
        assert shared[name] == whole[name] // 4
    on_their_way = shared["weights and gradients on their way between processes"]
    assert on_their_way == 3 * 2 * block + 4 * (num - 5 * block) + (2 + 4) * block
    assert memory.rows(shares=4)["gradients"] == whole["gradients"]


def test_the_plan_says_what_it_costs_and_what_does_not_fit() -> None:
    config = PlanConfig(base="wan1.3b", gpus=2, memory_gb=24)
    text = plan(config)
    assert "1,419,039,808" in text and "It does not fit" in text and "gradient_checkpointing=full" in text
    assert networks(config).dit.num_blocks == 30
    assert "text encoder in bfloat16, VAE | 11.9 GB" in text  # 5.7 billion parameters, and a VAE of 0.5 GB


def test_gpus_that_share_windows_keep_a_part_of_the_activations() -> None:
    def activations(text: str) -> float:
        return float(re.findall(r"a step of the longest window.* \| ([\d.]+) GB", text)[0])

    config = PlanConfig(base="wan1.3b", gpus=4)
    config.data.clips = dataclasses.replace(config.data.clips, height=192, width=320)
    alone, clips = plan(config), 4 * config.training.batch_size
    assert f"clips a step | {clips:,} |" in alone
    config.training.fit.context_parallel = 4
    together = plan(config)
    assert f"clips a step | {clips // 4:,} |" in together and "shared by 4 GPUs" in together
    assert activations(together) == pytest.approx(activations(alone) / 4, abs=0.1)
    config.training.fit.context_parallel = 5
    with pytest.raises(ValueError, match=r"^training.fit.context_parallel: .* 12 heads"):
        plan(config)
    config.training.fit.context_parallel = 3
    with pytest.raises(ValueError, match=r"^training.fit.context_parallel: expected a divisor of .*gpus=4, got 3"):
        plan(config)


def test_a_base_of_wan_2_2_has_a_quarter_of_the_tokens_and_the_published_size() -> None:
    configs = [PlanConfig(base=base, gpus=8) for base in ("wan1.3b", "wan2.2-5b")]
    with pytest.raises(ValueError, match=r"^data.clips.height: expected a multiple of 32"):
        plan(configs[1])
    for config in configs:
        config.data.clips = dataclasses.replace(config.data.clips, height=192, width=320)
    texts = [plan(config) for config in configs]
    # 4,999,787,712 are diffusers' with this configuration; the rest is the camera layer and the mask channel
    assert f"{4_999_787_712 + 6 * 4 * 3072 + 4 * 3072:,}" in texts[1]
    of_2_1, of_2_2 = (re.findall(r"\(mean over the tasks\), in all \| ([\d,]+),", text)[0] for text in texts)
    assert int(of_2_1.replace(",", "")) == pytest.approx(4 * int(of_2_2.replace(",", "")), abs=2)


def test_the_plan_of_a_folder_reads_its_networks_headers(wan22_base: Path, wan_base: Path) -> None:
    found = [networks(PlanConfig(base=str(base))) for base in (wan_base, wan22_base)]
    assert [base.pixels for base in found] == [8, 16]
    encoder = load_umt5(wan_base).model
    assert {base.text_parameters for base in found} == {sum(p.numel() for p in encoder.parameters())}


def test_what_cannot_be_planned_is_named() -> None:
    with pytest.raises(ValueError, match=r"^gpus: expected a positive number"):
        PlanConfig(gpus=0)
    with pytest.raises(ValueError, match=r"^base: expected one of \['wan1.3b', 'wan14b', 'wan2.2-5b'\] or a folder"):
        networks(PlanConfig(base="wan7b"))
