"""The world of chunks: what it stores of past chunks is in the state, row by row."""

import copy

import pytest
import torch
from torch import Tensor

from model.dit.causal_dit import CausalDiT
from model.dit.video_dit import VideoDiTConfig
from model.geometry import se3
from model.text.tiny_vocabulary import TinyVocabularyEncoder
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.open.causal_world import CausalSampler, CausalWorld
from model.world.protocol import WorldSpec, WorldState

SPEC = WorldSpec(height=16, width=32, intrinsics=(0.505, 0.898, 0.5, 0.5), fps=16.0)
FORWARD = se3.exp(torch.tensor([[0.0, 0, 0.1 * (i + 1), 0, 0.1 * i, 0] for i in range(4)]))


@pytest.fixture(scope="module")
def dit() -> CausalDiT:
    shape = VideoDiTConfig(in_channels=4, out_channels=4, width=24, num_heads=2, num_blocks=2, ffn_dim=20, text_dim=8,
                           freq_dim=8, camera=False, mask_channel=False)  # fmt: skip
    network = CausalDiT(shape)
    randomise(network)
    return network


@pytest.fixture(scope="module")
def world(dit: CausalDiT) -> CausalWorld:
    return make(dit)


def randomise(network: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in network.requires_grad_(False).eval().parameters():
        parameter.normal_(std=0.2, generator=generator)


def make(dit: CausalDiT, window: int = 12, metres_per_unit: float = 1.0) -> CausalWorld:
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, base_dim=4, num_res_blocks=1, dim_mult=[1, 1, 1, 1]))
    randomise(vae)
    sampler = CausalSampler(times=(1.0, 0.625), window=window, metres_per_unit=metres_per_unit)
    encoder = TinyVocabularyEncoder(["red", "blue", "box", "lake"], 8, 4)
    return CausalWorld(dit, vae, encoder, SPEC, sampler=sampler, default_prompts=["red box", "blue box"])


def fly(world: CausalWorld, state: WorldState, num_clips: int, path: Tensor = FORWARD) -> tuple[WorldState, Tensor]:
    for _ in range(num_clips):
        state, frames = world.extend(state, state.c2w[:, None] @ path)
    return state, frames


def test_a_clip_takes_one_evaluation_more_than_it_has_times(world: CausalWorld) -> None:
    assert (world.spec.evaluations_per_clip, world.spec.evaluations_per_opening) == (3, 3)


def test_rows_with_more_and_fewer_stored_chunks_share_a_batch(world: CausalWorld) -> None:
    new, old = world.start([5])[0], fly(world, world.start([6])[0], 3)[0]
    both = fly(world, torch.cat([new, old]), 1)[1]
    for row, single in enumerate((new, old)):
        alone = fly(world, single, 1)[1][0]
        assert (both[row].float() - alone.float()).abs().max() <= 1


def test_attention_reaches_no_further_than_the_window(dit: CausalDiT) -> None:
    """A window of three chunks stores two: what was stored before them no longer exists."""
    world = make(dit, window=12)
    state = world.start([7])[0]
    assert state.memory["keys"].shape == (1, 2, 8, 2, 24)
    assert not state.memory["keys"][:, :, :4].any() and state.memory["keys"][:, :, 4:].any()
    flown = fly(world, state, 1)[0]
    torch.testing.assert_close(flown.memory["keys"][:, :, :4], state.memory["keys"][:, :, 4:], rtol=0, atol=0)
    assert flown.memory["keys"].shape == state.memory["keys"].shape


def test_a_state_of_another_window_is_not_its_own(dit: CausalDiT, world: CausalWorld) -> None:
    state = make(dit, window=8).start([7])[0]
    with pytest.raises(ValueError, match=r"^state: expected one of this world"):
        world.extend(state, state.c2w[:, None] @ FORWARD)


def test_the_camera_moves_in_the_network_s_own_unit(dit: CausalDiT, world: CausalWorld) -> None:
    far = FORWARD.clone()
    far[:, :3, 3] *= 4
    expected = fly(world, world.start([3])[0], 2)[1]
    assert torch.equal(fly(make(dit, metres_per_unit=4.0), world.start([3])[0], 2, far)[1], expected)
    assert not torch.equal(fly(world, world.start([3])[0], 2, far)[1], expected)


def test_a_new_prompt_changes_the_clips_after_it(world: CausalWorld) -> None:
    state = fly(world, world.start([4], ["red box"])[0], 1)[0]
    changed = world.with_prompts(state, ["blue"])
    assert torch.equal(changed.memory["keys"], state.memory["keys"])
    assert not torch.equal(fly(world, changed, 1)[1], fly(world, state, 1)[1])


def test_in_16_bits_it_flies_nearly_the_same(dit: CausalDiT, world: CausalWorld) -> None:
    """So it runs on a card; what is stored of past chunks then has 16 bits too."""
    half = make(copy.deepcopy(dit).bfloat16())
    state, frames = fly(half, half.start([3])[0], 2)
    assert state.memory["keys"].dtype == torch.bfloat16
    expected = fly(world, world.start([3])[0], 2)[1]
    assert (frames.float() - expected.float()).abs().mean() < 0.1 * expected.float().std()


@pytest.mark.parametrize("name", ["images", "intrinsics"])
def test_it_refuses_what_it_has_no_use_for(world: CausalWorld, name: str) -> None:
    given = {"images": torch.zeros(1, 16, 32, 3, dtype=torch.uint8), "intrinsics": torch.tensor([0.5, 0.5, 0.5, 0.5])}
    with pytest.raises(ValueError, match=f"^{name}: expected None"):
        world.start([0], **{name: given[name]})  # type: ignore[arg-type]
