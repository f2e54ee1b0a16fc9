"""I3D from a TorchScript file: the network of the usual FVD."""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from model.fingerprint import fingerprint

_SIDE = 224
_FEWEST = 10  # frames: the network halves time three times, after a stride of 2 in the first layer
_WHERE = (
    "get i3d_torchscript.pt, which StyleGAN-V (github.com/universome/stylegan-v) and later codes share, put it "
    "anywhere and name it with i3d=FILE; or leave i3d out: the distance is then frechet_lab"
)


class I3DVideos:
    """`VideoNetwork`: the 400 logits of I3D, trained on Kinetics.

    The file is a program, which TorchScript runs: take it only from a source that you trust.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no TorchScript.

    Source: J. Carreira, A. Zisserman, Quo vadis, action recognition?, 2017; frames are prepared as in StyleGAN-V's FVD:
    the shorter side becomes 224 pixels, the middle square is kept, values are in [-1, 1].
    """

    metric = "fvd"

    def __init__(self, file: str | Path, device: str = "cpu") -> None:
        """Loads the network onto the device."""
        path = Path(file)
        if not path.is_file():
            raise FileNotFoundError(f"i3d: expected a TorchScript file, found none at {file}; {_WHERE}")
        try:
            self._network = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"i3d: expected a TorchScript file at {file}, got: {first}; {_WHERE}") from error
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
        return self._network(clip, rescale=False, resize=False, return_features=True)[0].float().cpu().clone()


def _prepared(frames: UInt8[Tensor, "f h w 3"]) -> Float[Tensor, "f 3 s s"]:
    height, width = frames.shape[1:3]
    size = [round(side * _SIDE / min(height, width)) for side in (height, width)]
    pictures = interpolate(frames.movedim(-1, 1).float(), size, mode="bilinear", align_corners=False)
    top, left = ((side - _SIDE) // 2 for side in size)
    return pictures[..., top : top + _SIDE, left : left + _SIDE] / 127.5 - 1
