"""COLMAP models, text or binary, read without COLMAP. Pinhole cameras only, no sparse points."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import roma
import torch

from model.data.camera_checks import check_one_camera, natural_order, picture_sizes
from model.data.manifest import ClipRecord
from model.data.media import find_pictures
from model.geometry import se3
from model.geometry.trajectory import CameraTrajectory

# Name and number of parameters by COLMAP's model id; only the first two cannot have distortion.
_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
_ONE_FOCAL = {"SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"}
_UNDISTORTED_AT_ZERO = {"SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV"}


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """The registered pictures of a model, in natural order; units are the model's own."""

    names: tuple[str, ...]
    camera: CameraTrajectory
    sizes: tuple[tuple[int, int], ...]  # height, width of every picture


def read_colmap_model(folder: str | Path) -> ColmapModel:
    """Returns the model in `cameras` and `images`, `.bin` or `.txt`.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: a file is malformed or a camera has distortion.
    """
    folder = Path(folder)
    for suffix in (".bin", ".txt"):
        if (folder / f"cameras{suffix}").is_file() and (folder / f"images{suffix}").is_file():
            break
    else:
        raise FileNotFoundError(f"{folder}: expected cameras and images, .bin or .txt, found none; name a model folder")
    try:
        cameras, images = _read_binary(folder) if suffix == ".bin" else _read_text(folder)
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise ValueError(f"{folder}: expected a whole COLMAP model, got: {error}; export it again") from error
    return _assemble(folder, cameras, images)


def colmap_record(
    clip_id: str, folder: str | Path, images: str | Path, *, fps: float = 1.0, scale: float | None = None
) -> ClipRecord:
    """Returns the record of a model whose pictures, in the natural order of their names, are frames at `fps` a second.

    The pictures lie in `images`. Poses are multiplied by `scale`, metres per unit of the model, if it is known.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it is malformed, or pictures are missing.
    """
    model, source = read_colmap_model(folder), Path(images).resolve()
    files = find_pictures(source, model.names)
    check_one_camera(str(folder), model.camera.intrinsics, files, picture_sizes(source, files), model.sizes)
    return ClipRecord(
        id=clip_id,
        source=str(source),
        times=torch.arange(len(files), dtype=torch.float64) / fps,
        files=files,
        camera=model.camera if scale is None else model.camera.scaled(scale),
        scale=scale,
        provenance={"reader": "colmap", "model": str(folder)},
    )


_Camera = tuple[str, int, int, list[float]]  # model, width, height, parameters
_Image = tuple[list[float], int, str]  # qw qx qy qz tx ty tz, camera id, name


def _assemble(folder: Path, cameras: dict[int, _Camera], images: list[_Image]) -> ColmapModel:
    if not images:
        raise ValueError(f"{folder}: expected registered pictures, got none; reconstruct again")
    images = sorted(images, key=lambda image: natural_order(image[2]))
    missing = {image[1] for image in images} - set(cameras)
    if missing:
        raise ValueError(f"{folder}: expected cameras for all pictures, found none with id {missing}; export it again")
    pose = torch.tensor([image[0] for image in images], dtype=torch.float64)
    rotation = roma.unitquat_to_rotmat(torch.nn.functional.normalize(roma.quat_wxyz_to_xyzw(pose[:, :4]), dim=-1))
    c2w = se3.inverse(se3.from_rotation_translation(rotation, pose[:, 4:]))
    se3.check_poses(str(folder), c2w)
    lenses = torch.tensor([_intrinsics(folder, cameras[image[1]]) for image in images])
    sizes = tuple((cameras[image[1]][2], cameras[image[1]][1]) for image in images)
    names = tuple(image[2] for image in images)
    return ColmapModel(names, CameraTrajectory(c2w.float(), lenses), sizes)


def _intrinsics(folder: Path, camera: _Camera) -> list[float]:
    model, width, height, parameters = camera
    num_lens = 3 if model in _ONE_FOCAL else 4
    expected = dict(_MODELS).get(model, len(parameters))
    if width < 1 or height < 1 or len(parameters) != expected:
        raise ValueError(
            f"{folder}: expected a picture of some size and {expected} parameters of the {model} camera, got {width} x "
            f"{height} pixels and {len(parameters)}; export it again"
        )
    if model not in _UNDISTORTED_AT_ZERO or any(parameters[num_lens:]):
        raise ValueError(
            f"{folder}: expected a pinhole camera, got {model} with distortion; undistort with COLMAP first"
        )
    fx, fy, cx, cy = parameters[:1] + parameters[:3] if num_lens == 3 else parameters[:4]
    return [fx / width, fy / height, cx / width, cy / height]


def _read_text(folder: Path) -> tuple[dict[int, _Camera], list[_Image]]:
    def lines(name: str) -> list[str]:
        text = (folder / name).read_text(encoding="utf-8")
        return [line.strip() for line in text.split("\n") if not line.startswith("#")]  # other ends may be in a name

    cameras: dict[int, _Camera] = {}
    for row in map(str.split, filter(None, lines("cameras.txt"))):
        cameras[int(row[0])] = (row[1], int(row[2]), int(row[3]), [float(word) for word in row[4:]])
    pairs = lines("images.txt")
    while pairs and not pairs[0]:
        del pairs[0]
    images = [_read_image(line) for line in pairs[::2] if line]
    # every second line lists the picture's points, three numbers each, and may be empty
    points = [line.split() for line in pairs[1::2] if line]
    if any(len(words) % 3 or not words[-1].removeprefix("-").isdecimal() for words in points):
        raise ValueError("images.txt: a line of points that is none; two lines stand for each picture")
    return cameras, images


def _read_image(line: str) -> _Image:
    words = line.split(maxsplit=9)  # the name may have blanks
    return [float(word) for word in words[1:8]], int(words[8]), words[9]


def _read_binary(folder: Path) -> tuple[dict[int, _Camera], list[_Image]]:
    cameras: dict[int, _Camera] = {}
    with (folder / "cameras.bin").open("rb") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            camera_id, model, width, height = _unpack(file, "<iiQQ")
            if not 0 <= model < len(_MODELS):
                raise ValueError(f"cameras.bin: a camera model of number {model}, which is not known")
            name, count = _MODELS[model]
            cameras[camera_id] = (name, width, height, list(_unpack(file, f"<{count}d")))
    images: list[_Image] = []
    with (folder / "images.bin").open("rb") as file:
        for _ in range(_unpack(file, "<Q")[0]):
            _, *pose, camera_id = _unpack(file, "<i7di")
            letters = bytearray()
            while (letter := _unpack(file, "<c")[0]) != b"\0":
                letters += letter
            file.seek(24 * _unpack(file, "<Q")[0], 1)
            images.append((pose, camera_id, letters.decode()))
    return cameras, images


def _unpack(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))
