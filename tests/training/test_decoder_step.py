"""The decoder learns from latents that the DiT has been through; the encoder, and so the DiT, stay as they are."""

from pathlib import Path

import torch
from torch import Tensor, nn

from model.data.clips import ClipSetConfig, render_clip_set
from model.diffusion.timesteps import sampling_schedule
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.text.tiny_vocabulary import TinyVocabularyEncoder, split_words
from model.training.decoder_step import ClipBatch, DecoderStep, FirstClips
from model.training.loop import FitConfig, fit
from model.training.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from model.training.state import TrainState
from model.vae.video_vae import VideoVAE, VideoVAEConfig

VAE = VideoVAEConfig(
    latent_channels=4,
    base_dim=4,
    dim_mult=[1, 2],
    num_res_blocks=1,
    temporal_downsample=[True],
    spatial_downsample=[True],
    patch_size=4,
    linear_path=True,
)
DIT = VideoDiTConfig(
    in_channels=4,
    out_channels=4,
    width=32,
    num_heads=2,
    num_blocks=1,
    ffn_dim=32,
    text_dim=8,
    freq_dim=16,
    patch_size=[1, 1, 1],
    camera_attention=True,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch() -> ClipBatch:
    return ClipBatch(
        torch.randint(0, 255, (2, 5, 16, 24, 3), dtype=torch.uint8, generator=generator()),
        torch.eye(4).repeat(2, 3, 1, 1),
        torch.tensor([0.6, 1.0, 0.5, 0.5]).expand(2, 4),
        torch.zeros(2, 3, 8),
    )


def decoder_step() -> DecoderStep:
    torch.manual_seed(0)
    dit = VideoDiT(DIT).requires_grad_(False)
    nn.init.normal_(dit.head.linear.weight, std=0.1)
    return DecoderStep(dit=dit, schedule=sampling_schedule(4, 3.0))


def latents() -> Tensor:
    return torch.randn(2, 4, 3, 2, 3, generator=generator(1))


def test_from_the_last_time_the_latents_are_the_true_ones_and_the_first_is_always() -> None:
    step = decoder_step()
    assert torch.equal(step.regenerate(latents(), batch(), 4, generator()), latents())
    for start in range(5):
        assert torch.equal(step.regenerate(latents(), batch(), start, generator())[:, :, 0], latents()[:, :, 0])


def test_from_the_first_time_nothing_is_left_of_the_true_ones_and_later_more_and_more() -> None:
    step, other = decoder_step(), latents()
    other[:, :, 1:] += 1
    changes = [
        (step.regenerate(other, batch(), k, generator()) - step.regenerate(latents(), batch(), k, generator()))
        .abs()
        .mean()
        .item()
        for k in range(5)
    ]
    assert changes[0] == 0 and changes == sorted(changes) and changes[1] > 0


def test_only_the_decoder_learns_and_it_does() -> None:
    torch.manual_seed(0)
    vae = VideoVAE(VAE)
    vae.freeze_encoder()
    before = {name: p.clone() for name, p in vae.state_dict().items()}
    seen: list[float] = []
    step = decoder_step()

    def watched(module: nn.Module, data: ClipBatch, g: torch.Generator) -> tuple[Tensor, dict[str, Tensor | float]]:
        loss, metrics = step(module, data, g)
        seen.append(loss.item())
        return loss, metrics

    state = TrainState(module=vae, optimizers=build_optimizers(vae, OptimizerConfig(lr=1e-2, muon=False)))
    config = FitConfig(progress=False, schedule=ScheduleConfig(warmup_steps=2))
    fit(watched, state, lambda *_: batch(), num_steps=40, config=config)
    changed = {name.split(".")[0] for name, p in vae.state_dict().items() if not torch.equal(p, before[name])}
    assert changed <= {"decoder", "from_latents", "linear_path"} and "decoder" in changed
    assert torch.equal(vae.linear_path.encode_rest.weight, before["linear_path.encode_rest.weight"])
    assert sum(seen[-5:]) < 0.8 * sum(seen[:5])


def test_batches_are_the_starts_of_clips_a_function_of_the_step(tmp_path: Path) -> None:
    config = ClipSetConfig(num_clips=3, num_latents=3, height=16, width=24, shard_size=3)
    clips = render_clip_set(tmp_path, config, num_workers=1)
    text_encoder = TinyVocabularyEncoder(split_words(" ".join(clips.captions)), 8, 40)
    batches = FirstClips(clips, text_encoder, batch_size=4, num_latents=2, seed=0)
    first, again, later = batches(0, 0), batches(0, 0), batches(1, 0)
    assert first.frames.shape == (4, 5, 16, 24, 3) and first.c2w.shape == (4, 2, 4, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.frames, later.frames)
    for frames, c2w in zip(first.frames, first.c2w, strict=True):
        row = next(i for i in range(3) if (clips.frames(i)[:5] == frames.numpy()).all())
        assert torch.equal(c2w, clips.poses[row, :2])
