"""Our world of minWM's student flies as its authors' own classes do, from a copy of github.com/shengshu-ai/minWM.

`MINWM=FOLDER python -m pytest tests/world/minwm/test_minwm_agreement.py -s`; FOLDER holds `Wan21/`. Skipped without.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from model.geometry.camera import projection_matrix
from model.geometry.trajectory import CameraTrajectory
from model.world.load import load_world
from model.world.noise import episode_noise
from model.world.open.causal_world import CausalWorld
from model.world.options import WorldOptions

CHUNKS, WINDOW, UNIT, SEED, PROMPT = 8, 12, 0.5, 5, "a red box & ball"


def attend(q: Tensor, k: Tensor, v: Tensor, k_lens: None = None) -> Tensor:
    """What flash_attn computes, in 32 bits."""
    return scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Their modules. Packages are stubs, since theirs import the training; clocks and memory are a GPU's."""
    if not (source := os.environ.get("MINWM")):
        pytest.skip("MINWM: expected the folder of a copy of minWM's code, got none")
    root, before = Path(source).resolve() / "Wan21", set(sys.modules)
    monkeypatch.syspath_prepend(str(root))
    for name in ("wan", "wan.modules", "pipeline", "demo_utils"):
        stub: Any = ModuleType(name)
        stub.__path__ = [str(root / name.replace(".", "/"))]
        monkeypatch.setitem(sys.modules, name, stub)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    names = ("wan.modules.model", "wan.modules.causal_model", "wan.modules.prope", "wan.modules.t5", "wan.modules.vae")
    names = (*names, "wan.modules.tokenizers", "wan_utils.wan_wrapper", "pipeline.causal_inference")
    modules = {name.split(".")[-1]: importlib.import_module(name) for name in names}
    for name, function in (("model", "flash_attention"), ("causal_model", "attention")):
        monkeypatch.setattr(modules[name], function, attend)
    yield SimpleNamespace(**modules)
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("wan", "wan_utils", "pipeline", "demo_utils"):
            del sys.modules[name]


def their_pipeline(theirs: SimpleNamespace, folder: Path, num_tokens: int) -> Any:
    """Their pipeline with the folder's weights; only sizes that they fix at the published network's are set here."""
    weights, base = torch.load(folder / "Wan21/Action2V/dmd/model.pt")["generator_ema"], folder / "Wan2.1-T2V-1.3B"
    shape = {name.removeprefix("model."): tuple(tensor.shape) for name, tensor in weights.items()}
    width, blocks = shape["head.modulation"][-1], len([name for name in shape if name.endswith("prope_o.bias")])
    text_dim = shape["text_embedding.0.weight"][1]
    wrapper = theirs.wan_wrapper
    generator = wrapper.WanDiffusionWrapper.__new__(wrapper.WanDiffusionWrapper)
    nn.Module.__init__(generator)
    generator.model = theirs.causal_model.CausalWanModel(
        dim=width,
        ffn_dim=shape["blocks.0.ffn.0.weight"][0],
        freq_dim=shape["time_embedding.0.weight"][1],
        text_dim=text_dim,
        num_heads=2,
        num_layers=blocks,
        local_attn_size=WINDOW,
    ).eval()
    theirs.prope.add_prope_parameters(generator.model)
    generator.uniform_timestep, generator.use_camera = False, False  # its cameras are there already
    generator.scheduler = wrapper.FlowMatchScheduler(shift=5.0, sigma_min=0.0, extra_one_step=True)
    generator.scheduler.set_timesteps(1000, training=True)
    generator.post_init()
    generator.load_state_dict(weights)

    class TextEncoder(wrapper.WanTextEncoder):  # type: ignore[misc, name-defined]
        device = torch.device("cpu")

        def __init__(self) -> None:
            nn.Module.__init__(self)
            stored = torch.load(base / "models_t5_umt5-xxl-enc-bf16.pth")
            sizes = {"vocab": len(stored["token_embedding.weight"]), "dim": text_dim, "dim_attn": 8, "dim_ffn": 32}
            self.text_encoder = theirs.t5.T5Encoder(
                **sizes, num_heads=2, num_layers=2, num_buckets=32, shared_pos=False
            )
            self.text_encoder.eval().load_state_dict(stored)
            self.tokenizer = theirs.tokenizers.HuggingfaceTokenizer(str(base / "google/umt5-xxl"), 512, "whitespace")

    vae_of = wrapper._video_vae
    wrapper._video_vae = lambda pretrained_path, z_dim: vae_of(base / "Wan2.1_VAE.pth", z_dim, dim=4)
    vae = wrapper.WanVAEWrapper()

    def empty(batch_size: int, dtype: torch.dtype, device: torch.device) -> list[dict[str, Any]]:
        stored = torch.zeros(batch_size, WINDOW * num_tokens, 2, width // 2)
        ends = {f"{name}_end_index": torch.zeros(1, dtype=torch.long) for name in ("global", "local")}
        return [
            {"k": stored.clone(), "v": stored.clone(), "is_init": False}
            | {name: end.clone() for name, end in ends.items()}
            for _ in range(blocks)
        ]

    class Pipeline(theirs.causal_inference.CausalInferencePipeline):  # type: ignore[misc, name-defined]
        def _initialize_kv_cache(self, **sizes: Any) -> None:
            self.kv_cache1 = empty(**sizes)

        def _initialize_prope_kv_cache(self, **sizes: Any) -> None:
            self.prope_kv_cache1 = empty(**sizes)

        def _initialize_crossattn_cache(self, **sizes: Any) -> None:
            self.crossattn_cache = empty(**sizes)

    settings = {"denoising_step_list": [1000, 750, 500, 250], "warp_denoising_step": True, "context_noise": 0}
    arguments = SimpleNamespace(**settings, num_frame_per_block=4, independent_first_frame=False)
    pipeline = Pipeline(arguments, "cpu", generator=generator, text_encoder=TextEncoder(), vae=vae)
    pipeline.num_transformer_blocks, pipeline.frame_seq_length = blocks, num_tokens
    return pipeline


@pytest.fixture
def case(theirs: SimpleNamespace, published: Path) -> Iterator[SimpleNamespace]:
    """Our world, their pipeline, and a path of eight chunks, the first of which stands still."""
    world = load_world(published, WorldOptions(metres_per_unit=UNIT))
    assert isinstance(world, CausalWorld)
    twists = torch.randn(4 * (CHUNKS - 1), 6) * torch.tensor([0.15] * 3 + [0.07] * 3)
    lens = torch.tensor(world.spec.intrinsics)
    path = CameraTrajectory.from_twists(torch.eye(4), twists, lens).c2w[1:]
    c2w = torch.cat([torch.eye(4).repeat(4, 1, 1), path])[None]
    w2c = torch.linalg.inv(c2w)
    w2c[..., :3, 3] /= UNIT
    k = torch.tensor([[lens[0], 0, lens[2]], [0, lens[1], lens[3]], [0, 0, 1]]).expand(1, len(c2w[0]), 3, 3)
    size = (world.spec.height // 8, world.spec.width // 8)
    pipeline = their_pipeline(theirs, published, size[0] * size[1] // 4)
    with torch.no_grad():
        yield SimpleNamespace(world=world, pipeline=pipeline, c2w=c2w, w2c=w2c, k=k, size=size)


def test_the_network_agrees(case: SimpleNamespace) -> None:
    pipeline, dit, differences = case.pipeline, case.world._dit, []
    for name in ("kv", "prope_kv", "crossattn"):
        getattr(pipeline, f"_initialize_{name}_cache")(batch_size=1, dtype=torch.float32, device="cpu")
    text = pipeline.text_encoder([PROMPT])
    assert torch.allclose(text["prompt_embeds"], case.world._text_encoder.encode([PROMPT]), atol=1e-5)
    stored: list[Any] = []
    for chunk in range(CHUNKS):
        now = slice(4 * chunk, 4 * chunk + 4)
        x, t = torch.randn(1, 16, 4, *case.size), (1.0, 0.75, 0.4, 0.1, 0.0)[chunk % 5]
        expected, _ = pipeline.generator(
            x.transpose(1, 2),
            text,
            torch.full((1, 4), 1000 * t),
            kv_cache=pipeline.kv_cache1,
            crossattn_cache=pipeline.crossattn_cache,
            current_start=4 * chunk * pipeline.frame_seq_length,
            viewmats=case.w2c[:, now],
            Ks=case.k[:, now],
            prope_kv_cache=pipeline.prope_kv_cache1,
        )
        stored = stored[-(WINDOW // 4 - 1) :]
        poses = case.c2w[:, 4 * (chunk - len(stored)) : now.stop]
        projection = projection_matrix(poses, torch.tensor(case.world.spec.intrinsics)[None], UNIT)
        past = [
            tuple(torch.cat(parts, dim=1) for parts in zip(*pairs, strict=True)) for pairs in zip(*stored, strict=True)
        ]
        velocity, own = dit(x, torch.tensor([t]), dit.encode_text(text["prompt_embeds"]), projection, past)
        stored.append(own)
        differences.append(float((velocity - expected.transpose(1, 2)).abs().max()))
    print(
        f"largest difference of {CHUNKS} chunks: {max(differences):.1e}, of velocities up to {velocity.abs().max():.1f}"
    )
    assert max(differences) < 1e-4


def test_the_whole_film_agrees(case: SimpleNamespace, theirs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    world = case.world
    state, first = world.start([SEED], prompts=[PROMPT])
    clips = [first]
    for chunk in range(1, CHUNKS):
        state, frames = world.extend(state, case.c2w[:, 4 * chunk : 4 * chunk + 4])
        clips.append(frames)
    steps = torch.arange(CHUNKS)
    noise = episode_noise(torch.full_like(steps, SEED), steps, (4, 16, 4, *case.size)).transpose(2, 3)
    again = iter(noise[:, 1:].flatten(0, 1))  # theirs is drawn from one stream
    monkeypatch.setattr(theirs.causal_inference.torch, "randn_like", lambda like: next(again))
    film = case.pipeline.inference(noise[:, 0].flatten(0, 1)[None], [PROMPT], viewmats=case.w2c, Ks=case.k)
    film = 255 * film[0, 12:].permute(0, 2, 3, 1)  # the last frame of the opening, then the clips
    difference = (film - torch.cat(clips, dim=1)[0].float()).abs().max()
    print(f"largest difference of {len(film)} frames: {difference:.4f} grey levels, 0.5 by rounding")
    assert difference < 0.51
