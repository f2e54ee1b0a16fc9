"""Worlds and states on disk."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings, strategies
from safetensors import safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from model.checkpoint import load_component
from model.dit.video_dit import VideoDiT, VideoDiTConfig
from model.pretrained import wan
from model.vae.video_vae import VideoVAE, VideoVAEConfig
from model.world.camera_world import CameraWorld
from model.world.clip_sampler import SamplerConfig
from model.world.config import TextEncoderConfig, WorldConfig, read_world_config, write_world_config
from model.world.load import join_worlds, load_world, save_world
from model.world.options import WorldOptions
from model.world.protocol import WorldState
from model.world.state_io import _write, load_state, save_state
from model.world.synthetic_world import SyntheticWorld

_ELSEWHERE = """
import hashlib, sys, torch
from model.world.load import load_world
from model.world.state_io import load_state
torch.set_num_threads(1)
world, poses = load_world(sys.argv[1]), torch.eye(4).repeat(2, 4, 1, 1)
poses[:, :, 2, 3] = torch.tensor([0.1, 0.2, 0.3, 0.4])
for state in (load_state(sys.argv[2]), world.extend(world.start([1, 2])[0], poses)[0]):
    print(hashlib.sha256(world.extend(state, poses)[1].numpy().tobytes()).hexdigest())
"""


def _poses() -> Tensor:
    poses = torch.eye(4).repeat(2, 4, 1, 1)
    poses[:, :, 2, 3] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    return poses


@pytest.mark.slow
def test_another_process_generates_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    world = load_world(str(folder))
    state, _ = world.extend(world.start([1, 2])[0], _poses())
    save_state(tmp_path / "state", state)
    here = hashlib.sha256(world.extend(state, _poses())[1].numpy().tobytes()).hexdigest()
    arguments = ["-c", _ELSEWHERE, str(folder), str(tmp_path / "state")]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [here, here]  # from the saved state, and from the seeds


def test_a_saved_state_comes_back_bit_for_bit(world: CameraWorld, tmp_path: Path) -> None:
    state = world.extend(world.start([1, 2])[0], _poses())[0]
    for index, name in ((slice(None), "all"), ([1, 0, 0], "fork"), (1, "single")):
        save_state(tmp_path / name, state[index])
        back = load_state(tmp_path / name)
        assert isinstance(back, WorldState) and back.batch_size == state[index].batch_size
        assert bool((back == state[index]).all())
    assert not list(tmp_path.glob(".*"))  # no temporary file stays


def test_a_damaged_state_is_refused(world: CameraWorld, tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(FileNotFoundError, match=r"^path: expected a saved world state"):
        load_state(path)
    save_state(path, world.start([1])[0])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^path: expected a saved world state"):
        load_state(path)


_ROW = torch.zeros(1)
_ALTERED = {
    "flat_pose": ({"c2w": torch.eye(3)[None]}, {}),
    "no_number_in_memory": ({'["memory", "x"]': torch.full((1, 2), torch.nan)}, {}),
    "no_number": ({"c2w": torch.full((1, 4, 4), torch.nan)}, {}),
    "sheared": ({"c2w": torch.ones(1, 4, 4)}, {}),
    "doubled": ({"c2w": torch.eye(4, dtype=torch.float64)[None]}, {}),
    "no_focal_length": ({"intrinsics": torch.zeros(1, 4)}, {}),
    "negative_seed": ({"seed": torch.tensor([-5])}, {}),
    "half_a_seed": ({"seed": torch.tensor([5.5])}, {}),
    "two_rows": ({"c2w": torch.eye(4).repeat(2, 1, 1)}, {}),
    "no_name": ({"evil": _ROW}, {}),
    "a_number_as_name": ({"5": _ROW}, {}),
    "an_empty_name": ({"[]": _ROW}, {}),
    "a_leaf_as_folder": ({'["memory", "start_c2w", "x"]': _ROW}, {}),
    "other_batch": ({}, {"batch_size": "[5]"}),
    "no_batch": ({}, {"batch_size": "x"}),
    "batch_of_words": ({}, {"batch_size": '{"a": 1}'}),
}


@pytest.mark.parametrize("altered", _ALTERED)
def test_an_altered_state_is_refused(tmp_path: Path, altered: str) -> None:
    path = tmp_path / "state"
    save_state(path, SyntheticWorld(height=8, width=12).start([1])[0])
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    more, other = _ALTERED[altered]
    _write(path, {**tensors, **more}, {**metadata, **other})  # by someone who knows how the checksum is made
    with pytest.raises(ValueError, match=rf"^path: expected a saved world state, {path} is damaged \((?!checksum)"):
        load_state(path)


@pytest.fixture(scope="module")
def moment(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("moment") / "state"
    save_state(path, SyntheticWorld(height=8, width=12).start([1])[0])
    load_state(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spoilt") / "state"


@settings(max_examples=400, deadline=None)
@given(data=strategies.data())
def test_no_flipped_byte_goes_unnoticed(moment: bytes, spoilt: Path, data: strategies.DataObject) -> None:
    places = strategies.lists(strategies.integers(0, len(moment) - 1), min_size=1, max_size=5, unique=True)
    content = bytearray(moment)
    for place in data.draw(places):
        content[place] ^= data.draw(strategies.integers(1, 255))
    spoilt.write_bytes(content)
    with pytest.raises(ValueError, match=r"^path: expected a saved world state, .* is damaged"):
        load_state(spoilt)


def test_no_byte_of_the_header_can_change_unnoticed(moment: bytes, spoilt: Path) -> None:
    for place in range(8 + int.from_bytes(moment[:8], "little")):
        for flip in (0x01, 0x20, 0x29):  # 0x29 makes a tab of a space: the same JSON
            content = bytearray(moment)
            content[place] ^= flip
            spoilt.write_bytes(content)
            with pytest.raises(ValueError, match=r"^path: expected a saved world state, .* is damaged"):
                load_state(spoilt)


@pytest.mark.parametrize(
    "content", [b"", b"{}", (2**62).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{}", b"\x80\x04N."]
)
def test_other_files_are_no_states(tmp_path: Path, content: bytes) -> None:
    """Empty, short, with a header of 4 exabytes, safetensors of nothing, a pickle."""
    (tmp_path / "state").write_bytes(content)
    with pytest.raises(ValueError, match=r"^path: expected a saved world state, .* is damaged"):
        load_state(tmp_path / "state")


def test_a_state_without_a_checksum_is_refused(moment: bytes, tmp_path: Path) -> None:
    tensors = load(moment)
    save_file(tensors, tmp_path / "old", metadata={"format": "cameractrlworld.world_state.1", "batch_size": "[1]"})
    save_file(tensors, tmp_path / "torn", metadata={"format": "cameractrlworld.world_state.2", "batch_size": "[1]"})
    for name, reason in (("old", "format: expected .*2, got .*1"), ("torn", "checksum: ")):
        with pytest.raises(ValueError, match=rf"damaged \({reason}"):
            load_state(tmp_path / name)


def test_a_failed_save_keeps_the_old_state(world: CameraWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    save_state(path, world.start([1])[0])
    before = path.read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError):
        save_state(path, world.start([2])[0])
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_saved_world_comes_back(folder: Path, config: WorldConfig, make_world: Callable[..., CameraWorld]) -> None:
    loaded, world = load_world(folder), make_world(opening=config.opening)
    assert loaded.spec == world.spec
    assert torch.equal(loaded.start([3])[1], world.start([3])[1])


def test_weights_are_shared_between_settings(folder: Path) -> None:
    one = load_world(folder)
    two = load_world(folder, WorldOptions(sampler_steps=5, guidance_text=1.0, guidance_camera=1.0))
    assert isinstance(one, CameraWorld) and isinstance(two, CameraWorld)
    assert one._dit is two._dit and one._vae is two._vae
    assert (one.spec.evaluations_per_clip, two.spec.evaluations_per_clip) == (6, 5)


def test_memory_can_be_switched_on_and_off(folder: Path) -> None:
    capacities = [
        load_world(folder, WorldOptions(memory_latents=n)).start([1])[0].memory["window", "c2w"].shape[1]
        for n in (0, 2)
    ]
    assert capacities == [5, 64]
    with pytest.raises(ValueError, match="memory_latents: expected 0 to 4, got 5"):
        load_world(folder, WorldOptions(memory_latents=5))


def test_new_weights_in_a_folder_are_seen(tmp_path: Path, dit: VideoDiT, vae: VideoVAE, config: WorldConfig) -> None:
    save_world(tmp_path / "w", dit, vae, config)
    before = load_world(tmp_path / "w").start([1])[1]
    other = VideoDiT(dit.config)
    torch.nn.init.normal_(other.head.linear.weight)
    save_world(tmp_path / "w", other, vae, config)
    assert not torch.equal(load_world(tmp_path / "w").start([1])[1], before)


def test_half_precision_files_make_float32_worlds(
    tmp_path: Path, dit: VideoDiT, vae: VideoVAE, config: WorldConfig, world: CameraWorld
) -> None:
    save_world(tmp_path, dit, vae, config, dtype=torch.float16)
    loaded = load_world(tmp_path)
    assert isinstance(loaded, CameraWorld)
    assert next(loaded._dit.parameters()).dtype == torch.float32
    size = sum(path.stat().st_size for path in tmp_path.glob("*/weights.safetensors"))
    count = sum(p.numel() for network in (dit, vae) for p in network.state_dict().values())
    assert size < 2 * count + 40_000  # headers


def test_the_synthetic_world_by_name() -> None:
    assert isinstance(load_world("synthetic"), SyntheticWorld)
    with pytest.raises(ValueError, match=r"^sampler_steps: expected the default"):
        load_world("synthetic", WorldOptions(sampler_steps=3))


def test_a_wan_pipeline_folder_loads(tmp_path: Path, config: WorldConfig) -> None:
    dit = VideoDiT(VideoDiTConfig(width=24, num_heads=2, num_blocks=1, ffn_dim=32, text_dim=8, freq_dim=8))
    vae = VideoVAE(VideoVAEConfig(base_dim=4, num_res_blocks=1))
    torch.nn.init.ones_(dit.get_parameter("camera_embedding.patchify.weight"))  # as if trained
    wan.save_dit(dit, tmp_path / "transformer")
    wan.save_vae(vae, tmp_path / "vae")
    write_world_config(tmp_path, config)
    state, _ = load_world(tmp_path).start([1])
    assert load_world(tmp_path).extend(state, _poses()[:1])[1].shape == (1, 16, 16, 32, 3)


def test_a_world_file_says_it_all(tmp_path: Path) -> None:
    config = WorldConfig(
        fps=16.0,
        sampler=SamplerConfig(num_steps=3, solver="heun"),
        text_encoder=TextEncoderConfig(kind="umt5", num_tokens=512),
        default_prompts=["a: b"],
    )
    write_world_config(tmp_path, config)
    assert read_world_config(tmp_path) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("heigth: 3", r"settings of WorldConfig, got unknown \['heigth'\]"),
        ("sampler: {num_steps: many}", "settings of WorldConfig, got .*many"),
        ("a: [", "YAML, got "),
        ("sampler: {shift: -1.0}", "settings of WorldConfig, got shift: expected a positive number"),
        ("3", "a mapping of settings, got int"),
    ],
)
def test_a_wrong_world_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "world.yaml").write_text(text)
    with pytest.raises(ValueError, match=rf"^world: .*world\.yaml: expected {message}"):
        load_world(tmp_path)


def test_missing_and_damaged_folders_are_refused(
    tmp_path: Path, dit: VideoDiT, vae: VideoVAE, config: WorldConfig
) -> None:
    with pytest.raises(FileNotFoundError, match=r"^world: expected 'tiny', 'small', 'synthetic'"):
        load_world("no such world")
    with pytest.raises(FileNotFoundError, match=r"^world: .*world\.yaml"):
        load_world(tmp_path)
    save_world(tmp_path, dit, vae, config)
    weights = tmp_path / "dit" / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"^world: .*weights\.safetensors"):
        load_world(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"^world: .*weights\.safetensors"):
        load_world(tmp_path)
    weights.write_bytes(whole)
    load_world(tmp_path)


def test_sizes_that_do_not_fit_the_networks_are_refused(
    tmp_path: Path, dit: VideoDiT, vae: VideoVAE, config: WorldConfig
) -> None:
    config = WorldConfig(height=20, text_encoder=config.text_encoder)
    save_world(tmp_path, dit, vae, config)
    with pytest.raises(ValueError, match="height, width: expected multiples of 16 and 16, got 20 and 80"):
        load_world(tmp_path)


@pytest.fixture
def joined(folder: Path, tmp_path: Path) -> Path:
    """A world of two samplers: the fixture's, and one of other weights in a single step."""
    config = read_world_config(folder)
    other, vae = (
        load_component(folder / "dit", VideoDiTConfig, VideoDiT),
        load_component(folder / "vae", VideoVAEConfig, VideoVAE),
    )
    for weights in other.parameters():
        weights.data.mul_(1.1)
    student = replace(config, sampler=SamplerConfig(num_steps=1), opening=SamplerConfig(num_steps=2))
    save_world(tmp_path / "student", other, vae, student, dtype=None)
    return join_worlds(tmp_path / "joined", {"default": folder, "fast": tmp_path / "student"})


def test_a_world_of_several_samplers_flies_as_each_of_its_parts(joined: Path, folder: Path, tmp_path: Path) -> None:
    for name, alone in ((None, folder), ("default", folder), ("fast", tmp_path / "student")):
        world, own = load_world(joined, WorldOptions(sampler=name)), load_world(alone)
        assert world.spec == own.spec
        clips = [part.extend(part.start([1, 2])[0], _poses())[1] for part in (world, own)]
        assert torch.equal(*clips)
    fast = load_world(joined, WorldOptions(sampler="fast"))
    assert (fast.spec.evaluations_per_clip, fast.spec.evaluations_per_opening) == (1, 2)
    assert load_world(joined, WorldOptions(sampler="fast", sampler_steps=3)).spec.evaluations_per_clip == 3


def test_an_unknown_sampler_is_named_with_those_there_are(joined: Path, folder: Path) -> None:
    with pytest.raises(ValueError, match=r"^sampler: expected one of this world's, \['default', 'fast'\], got 'slow'"):
        load_world(joined, WorldOptions(sampler="slow"))
    with pytest.raises(ValueError, match=r"^sampler: expected one of this world's, \['default'\], got 'fast'"):
        load_world(folder, WorldOptions(sampler="fast"))
    with pytest.raises(ValueError, match=r"^sampler: expected the default, it has no effect on world='synthetic'"):
        load_world("synthetic", WorldOptions(sampler="fast"))


def test_a_samplers_network_lies_in_the_worlds_own_folder(joined: Path) -> None:
    text = (joined / "world.yaml").read_text()
    for path in ("../student/dit", "/etc", "a b", ""):
        (joined / "world.yaml").write_text(text.replace("dit: fast", f"dit: '{path}'"))
        with pytest.raises(ValueError, match="samplers: expected the name of a folder in the world's for dit"):
            load_world(joined)


def test_worlds_of_different_vaes_are_not_joined(folder: Path, tmp_path: Path) -> None:
    config, dit = read_world_config(folder), load_component(folder / "dit", VideoDiTConfig, VideoDiT)
    vae = load_component(folder / "vae", VideoVAEConfig, VideoVAE)
    vae.state_dict()["encoder.conv_in.weight"].mul_(2)
    save_world(tmp_path / "other", dit, vae, config, dtype=None)
    with pytest.raises(ValueError, match=r"^samplers: expected worlds with one VAE, 'fast' has another than 'default'"):
        join_worlds(tmp_path / "joined", {"default": folder, "fast": tmp_path / "other"})
    with pytest.raises(ValueError, match=r"^samplers: expected one that is 'default', got \['fast'\]"):
        join_worlds(tmp_path / "joined", {"fast": folder})
