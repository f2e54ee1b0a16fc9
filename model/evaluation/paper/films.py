"""Finds the films to judge and the camera path of each, and reads their frames."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from model.curation.films import Film, find_films
from model.curation.shots import ClipFrames
from model.data.film_frames import film_frames
from model.geometry.camera import intrinsics_from_fov
from model.geometry.trajectory import CameraTrajectory
from model.geometry.trajectory_io import read_trajectory

Size = tuple[int, int]  # height and width, pixels


@dataclass(frozen=True)
class EvaluatedFilm:
    """A film, and the file of its camera path, if there is one.

    Attributes:
        film: The film.
        scene: Films in the same subfolder of the judged folder are clips of one scene; a film outside any subfolder is
            a scene by itself.
        path_file: NAME.npy or NAME.txt.
    """

    film: Film
    scene: str
    path_file: Path | None = None


def films_with_paths(videos: str | Path, poses: str | Path | None = None) -> list[EvaluatedFilm]:
    """Returns the films of a folder, each with its path: `poses/a/b.npy` or `.txt` of `videos/a/b.mp4`.

    Raises:
        FileNotFoundError: There is no film, or no folder of paths.
    """
    if poses is not None and not Path(poses).is_dir():
        raise FileNotFoundError(f"poses: expected a folder of NAME.npy or NAME.txt, found none at {poses}; check it")
    root = Path(videos).resolve()
    root = root.parent if root.is_file() else root
    judged = []
    for film in find_films(videos):
        inside = film.path.relative_to(root)
        scene = inside.parent.as_posix() if len(inside.parts) > 1 else film.id
        judged.append(EvaluatedFilm(film, scene, None if poses is None else _path_file(Path(poses) / inside)))
    return judged


def most_common_size(films: Sequence[EvaluatedFilm]) -> Size | None:
    """Returns the size that most films have, which sets the unit of pixels; None if no film can be opened."""
    sizes: Counter[Size] = Counter()
    for each in films:
        try:
            frame = next(film_frames(each.film.path))
        except (ValueError, OSError):  # reported when the film is read
            continue
        sizes[frame.height, frame.width] += 1
    return sizes.most_common(1)[0][0] if sizes else None


def read_film(film: Film, size: Size | None, most_frames: int) -> ClipFrames:
    """Returns all frames of a film.

    Raises:
        ValueError: It cannot be read, is of another size, or has fewer than two frames or more than `most_frames`.
        OSError: It no longer exists.
    """
    pictures, times = [], []
    for frame in film_frames(film.path):
        if size is not None and (frame.height, frame.width) != size:
            raise ValueError(
                f"expected {size[1]} x {size[0]} pixels, as most films here have, got {frame.width} x {frame.height}; "
                "judge films of each size in a folder of their own"
            )
        pictures.append(torch.from_numpy(frame.rgb()))
        times.append(frame.time)
        if len(pictures) > most_frames:
            raise ValueError(f"expected at most {most_frames} frames, got more; cut the film, or raise most_frames")
    if len(pictures) < 2:
        raise ValueError("expected two frames or more, got one, in which nothing moves; leave the picture out")
    return ClipFrames(torch.stack(pictures), torch.tensor(times, dtype=torch.float64), 0, 0)


def read_path(judged: EvaluatedFilm, num_frames: int) -> CameraTrajectory:
    """Returns the commanded path of a film, a pose for every frame.

    Raises:
        ValueError: There is no path for this film, it is malformed, or it has another length than the film.
    """
    if judged.path_file is None:
        raise ValueError("expected NAME.npy or NAME.txt of the film's name in poses, found none; add it")
    path = read_trajectory(judged.path_file)
    if len(path) != num_frames:
        raise ValueError(
            f"{judged.path_file.name}: expected a pose for each of {num_frames} frames, got {len(path)}; "
            "write one for every frame"
        )
    return path


def known_lens(
    judged: EvaluatedFilm, path: CameraTrajectory | None, fov_deg: float | None, size: Size
) -> Tensor | None:
    """Returns the known lens, from a RealEstate10K file or a given angle of view; None: it must be estimated."""
    if path is not None and judged.path_file is not None and judged.path_file.suffix.lower() == ".txt":
        return path.intrinsics.mean(dim=0)
    return None if fov_deg is None else intrinsics_from_fov(math.radians(fov_deg), *size)


def _path_file(stem: Path) -> Path | None:
    candidates = (stem.with_suffix(suffix) for suffix in (".npy", ".txt"))
    return next((path for path in candidates if path.is_file()), None)
