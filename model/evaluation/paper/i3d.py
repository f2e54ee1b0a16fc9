"""I3D from a file of weights or of TorchScript: the network of the usual FVD."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from model.evaluation.paper.inception import InceptionI3D
from model.fingerprint import fingerprint
from model.pretrained.original_files import read_pickle
from model.tensor_file import load_tensors

_SIDE = 224
_FEWEST = 10  # frames: the network halves time three times, after a stride of 2 in the first layer
_WHERE = (
    "get i3d_torchscript.pt, which StyleGAN-V (github.com/universome/stylegan-v) and later codes share, or the weights "
    "i3d_pretrained_400.pt of TATS (github.com/songweige/TATS), put it anywhere and name it with i3d=FILE; or leave "
    "i3d out: the distance is then frechet_lab"
)


class I3DVideos:
    """`VideoNetwork`: the 400 logits of I3D, trained on Kinetics.

    The file holds weights (safetensors, or a state dict of PyTorch, read without running anything), or TorchScript.
    TorchScript is a program, which is run: take it only from a source that you trust.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is neither, or its tensors are not I3D's.

    Source: J. Carreira, A. Zisserman, Quo vadis, action recognition?, 2017; frames are prepared as in StyleGAN-V's FVD:
    the shorter side becomes 224 pixels, the middle square is kept, values are in [-1, 1].
    """

    metric = "fvd"

    def __init__(self, file: str | Path, device: str = "cpu") -> None:
        """Loads the network onto the device."""
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"i3d: expected a file of weights or TorchScript, found none at {file}; {_WHERE}")
        self._logits = _script(path, device) if _is_script(path) else _network(path, device)
        self._device = device
        self.name = f"I3D {fingerprint(path)[:8]}"

    @torch.inference_mode()
    def __call__(self, frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, " d"]:
        """Returns the logits.

        Raises:
            ValueError: The clip is too short for the network.
        """
        if len(frames) < _FEWEST:
            raise ValueError(f"expected clips of at least {_FEWEST} frames for I3D, got {len(frames)}; film longer")
        clip = _prepared(frames).movedim(0, 1)[None].to(self._device)
        return self._logits(clip)[0].float().cpu().clone()


def _is_script(path: Path) -> bool:
    """Whether the file is an archive that holds code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _script(path: Path, device: str) -> Callable[[Tensor], Tensor]:
    try:
        network = torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"i3d: expected a TorchScript file at {path}, got: {first}; {_WHERE}") from error
    return lambda clip: network(clip, rescale=False, resize=False, return_features=True)


def _network(path: Path, device: str) -> Callable[[Tensor], Tensor]:
    try:
        stored = load_tensors(path)[0] if path.suffix == ".safetensors" else read_pickle(path, "cpu")
    except ValueError as error:
        raise ValueError(f"i3d: expected a file of weights or TorchScript, got {error}; {_WHERE}") from error
    network = InceptionI3D().to(device).eval()
    try:
        network.load_state_dict(stored)  # type: ignore[arg-type]
    except (RuntimeError, TypeError, AttributeError) as error:  # other tensors, no names, names that are no text
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"i3d: expected I3D's tensors at {path}, got: {reason}; {_WHERE}") from error
    return network


def _prepared(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3 s s"]:
    height, width = frames.shape[1:3]
    size = [round(side * _SIDE / min(height, width)) for side in (height, width)]
    pictures = interpolate(frames.movedim(-1, 1).float(), size, mode="bilinear", align_corners=False)
    top, left = ((side - _SIDE) // 2 for side in size)
    return pictures[..., top : top + _SIDE, left : left + _SIDE] / 127.5 - 1
