"""Training's input: windows of a data set's clips at a world's size and rate, stored in rendered clips' format."""

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from model.curation.publish import HELD_OUT
from model.curation.shots import ShotsConfig, plan_clips
from model.curation.workers import run_all
from model.data.clips import FRAMES_PER_LATENT, ClipSet, ClipSetConfig, open_clip_set, render_clip_set, save_array
from model.data.cropping import crop_and_resize, cropped_intrinsics
from model.data.film_frames import FilmFrame, film_frames
from model.data.manifest import ClipRecord, Manifest
from model.fingerprint import fingerprint
from model.geometry import se3
from model.picture_file import read_picture
from model.whole_file import write_text

_UNREADABLE = "clips/unreadable.json"


@dataclass(frozen=True, eq=False)
class Window:
    """Consecutive frames of a clip, as many as one training clip has.

    Attributes:
        record: The clip.
        numbers: Numbers of the clip's frames.
    """

    record: ClipRecord
    numbers: tuple[int, ...]

    @property
    def is_labelled(self) -> bool:
        """Whether it has a camera in metres: a camera of unknown scale would teach a wrong speed."""
        return self.record.camera is not None and self.record.scale is not None


def is_data_set(folder: Path) -> bool:
    """Returns whether the folder holds a manifest of clips from films."""
    return (folder / "manifest.jsonl").exists()


def clip_set(folder: Path, config: ClipSetConfig, num_workers: int = 1, *, render: bool = False) -> ClipSet:
    """Opens the clips that a folder holds: those of a data set's films, or rendered ones.

    Args:
        folder: A data set of `model.cli.curate`, or the folder of a rendered clip set.
        config: Size, rate and length; at most `num_clips` windows of films. Films keep their own lenses:
            `horizontal_fov_deg` becomes the median, `style` and `first_seed` have no effect.
        num_workers: Processes.
        render: Render missing clips; without it, the folder must exist.

    Raises:
        FileNotFoundError: the folder holds no clips, and `render` is false.
        ValueError: no clip is long enough, none can be read, or `render` is set for a folder of films.
    """
    if render:
        if is_data_set(folder):
            raise ValueError(
                f"data.render_into: expected a folder for rendered clips, {folder} is a data set of films; read it "
                f"with data.folder={folder}"
            )
        return render_clip_set(folder, config, num_workers)
    _check_clips(folder)
    return _film_clips(folder, config, num_workers) if is_data_set(folder) else open_clip_set(folder, config)


def _film_clips(folder: Path, config: ClipSetConfig, num_workers: int) -> ClipSet:
    """The windows of a data set's films.

    Missing windows are decoded first, into a folder of `FOLDER/clips/` whose name has a digest of the manifest and the
    settings. A clip whose film or pictures are missing or broken is left out, and counted.
    """
    while True:
        windows, left_out = _windows(folder, config)
        windows = windows[: config.num_clips]
        if not windows:
            raise ValueError(_why_no_windows(folder, config, left_out))
        clips = _decode(folder, windows, config, num_workers)
        if clips is not None:
            break
    found = dataclasses.replace(config, num_clips=len(windows), horizontal_fov_deg=_median_fov(clips, windows, config))
    write_text(clips / "clip_set.json", json.dumps(dataclasses.asdict(found), indent=1))
    labelled = sum(window.is_labelled for window in windows)
    print(f"{folder}: {len(windows)} windows of {config.num_frames} frames, {labelled} of them with a metric camera")
    if left_out:
        print(f"{folder}: {len(left_out)} clips cannot be read and are left out: {_first(left_out)}")
    if not labelled and folder.name != HELD_OUT:
        print("all clips are unlabelled: what is trained on them alone learns how things look and move, not the camera")
    return ClipSet(clips)


def _decode(folder: Path, windows: list[Window], config: ClipSetConfig, num_workers: int) -> Path | None:
    """Returns the folder of the decoded windows; None if some failed, whose clips are then listed as unreadable."""
    names = [f"{window.record.id} {window.numbers[0]}" for window in windows]
    manifest = (folder / "manifest.jsonl").read_bytes()
    digest = fingerprint(manifest, repr((config, names)))[:10]
    clips = folder / "clips" / f"{config.height}x{config.width}_{config.num_frames}_{digest}"
    clips.mkdir(parents=True, exist_ok=True)
    parts = enumerate(windows[first : first + config.shard_size] for first in range(0, len(windows), config.shard_size))
    jobs = [(clips, k, part, config) for k, part in parts if not (clips / f"records_{k:05d}.json").exists()]
    bar = tqdm(total=len(jobs), desc="decoding clips", unit="shard")
    run_all(write_shard, jobs, num_workers=num_workers, backend="loky", bar=bar)
    failures = [json.loads(path.read_text()) for path in sorted(clips.glob("failures_*.json"))]
    if not failures:
        return clips
    unreadable = _unreadable(folder)
    for failure in failures:
        unreadable |= failure
    write_text(folder / _UNREADABLE, json.dumps(unreadable, indent=1))
    shutil.rmtree(clips)
    return None


def _unreadable(folder: Path) -> dict[str, str]:
    """The reasons why clips could not be decoded, by id; delete the file to try them again."""
    path = folder / _UNREADABLE
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found


def _first(left_out: dict[str, str]) -> str:
    name, reason = next(iter(left_out.items()))
    # a file's name that is not UTF-8 cannot be printed as it is
    return f"{name}: {reason}".encode("utf-8", "backslashreplace").decode()


def _check_clips(folder: Path) -> None:
    """Raises FileNotFoundError unless the folder holds clips."""
    if is_data_set(folder) or (folder / "clip_set.json").exists():
        return
    found = "holds neither a manifest.jsonl nor a clip_set.json" if folder.is_dir() else "does not exist"
    raise FileNotFoundError(
        f"data.folder: expected a data set of model.cli.curate or a rendered clip set, {folder} {found}; check the "
        "path, or render clips with data.render_into=FOLDER in its place"
    )


def held_out_set(folder: Path, config: ClipSetConfig, num_workers: int = 1, *, render: bool = False) -> ClipSet | None:
    """Opens clips that are not trained on: those of a data set's held-out films, or scenes in `FOLDER_held_out`.

    Returns:
        None if there are no such clips; a printed line says why.
    """
    if render:
        return clip_set(Path(f"{folder}_held_out"), config, num_workers, render=True)
    where = folder / HELD_OUT if is_data_set(folder) else Path(f"{folder}_held_out")
    if is_data_set(folder):
        windows, left_out = _windows(where, config)
        if not windows:
            print(f"nothing is held out: {_why_no_windows(where, config, left_out)}")
            return None
    if not is_data_set(folder) and not (where / "clip_set.json").exists():
        print(f"nothing is held out: there is no clip set {where}")
        return None
    return clip_set(where, config, num_workers)


def _why_no_windows(folder: Path, config: ClipSetConfig, left_out: dict[str, str]) -> str:
    if left_out:
        return f"data.folder: expected clips that can be read, found none in {folder}; {_first(left_out)}"
    records = list(Manifest(folder))
    if not records:
        more = "curate more films (ledger.jsonl says why clips were left out)"
        if folder.name == HELD_OUT:
            more = "curate again with publish.held_out=0.1, which computes nothing anew and needs two films with clips"
        return f"data.folder: expected clips, found none in {folder}; {more}"
    longest = max(record.span[1] - record.span[0] for record in records)
    num_latents = 1 + int(longest * config.fps + 0.5) // FRAMES_PER_LATENT
    return (
        f"data.folder: expected clips of at least {config.num_frames} frames at {config.fps:g} a second, found "
        f"none in {folder}; the longest has {longest:.2f} s: data.clips.num_latents={num_latents} fits it"
    )


def write_shard(folder: Path, shard: int, windows: Sequence[Window], config: ClipSetConfig) -> None:
    """Decodes the frames of some windows and writes them; the records are written last and mark the shard as complete.

    If some cannot be decoded, only their ids are written, with the reasons.
    """
    parts, failures = [], {}
    for window in windows:
        try:
            parts.append(_decoded(window, config))
        except (ValueError, OSError) as error:
            failures[window.record.id] = str(error)
    if failures:
        write_text(folder / f"failures_{shard:05d}.json", json.dumps(failures))
        return
    for name, values in (("frames", 0), ("poses", 1), ("intrinsics", 2)):
        save_array(folder / f"{name}_{shard:05d}.npy", np.stack([part[values] for part in parts]))
    records = [
        {"seed": 0, "caption": w.record.caption, "kind": w.record.id, "labelled": w.is_labelled} for w in windows
    ]
    write_text(folder / f"records_{shard:05d}.json", json.dumps(records))


def _windows(folder: Path, config: ClipSetConfig) -> tuple[list[Window], dict[str, str]]:
    """Whole windows end to end, films in a pseudo-random order; and by id the reasons why clips are left out."""
    length = config.num_frames
    plan = ShotsConfig(fps=config.fps, height=config.height, width=config.width, min_frames=length, max_frames=length)
    mixed = sorted(Manifest(folder), key=lambda record: (fingerprint(os.fsencode(record.source)), record.id))
    windows, left_out, unreadable = [], {}, _unreadable(folder)
    for record in mixed:
        clips = plan_clips(record.times.tolist(), [], plan)
        reason = unreadable.get(record.id) or _what_is_missing(record)
        if clips and reason:
            left_out[record.id] = reason
        else:
            windows += [Window(record, clip.numbers) for clip in clips]
    return windows, left_out


def _what_is_missing(record: ClipRecord) -> str:
    paths = [Path(record.source) / file for file in record.files] or [Path(record.source)]
    missing = [path for path in paths if not path.is_file()]
    return f"{missing[0]}: expected a file, got none there; import or curate it again" if missing else ""


def _decoded(window: Window, config: ClipSetConfig) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Frames `f h w 3`, latent poses `l 4 4` relative to the first, and intrinsics `4` of the cropped pictures."""
    record, numbers = window.record, list(window.numbers)
    frames, source_size = [], (0, 0)
    for picture in _pictures(record, numbers):
        frames.append(crop_and_resize(picture, config.height, config.width))
        source_size = picture.shape[:2]
    if len(frames) != len(numbers):
        raise ValueError(f"{record.source}: expected a film of {float(record.times[-1]):.3f} s, got a shorter one")
    if not window.is_labelled:
        return (
            np.stack(frames),
            np.tile(np.eye(4, dtype=np.float32), (config.num_latents, 1, 1)),
            config.intrinsics().numpy(),
        )
    assert record.camera is not None
    c2w = record.camera.c2w[numbers[::FRAMES_PER_LATENT]]
    lens = cropped_intrinsics(record.camera.intrinsics[numbers[0]], *source_size, config.height, config.width)
    return np.stack(frames), se3.relative(c2w[:1], c2w).float().numpy(), lens.float().numpy()


def _pictures(record: ClipRecord, numbers: list[int]) -> Iterator[NDArray[np.uint8]]:
    if record.files:
        upright = record.camera is None  # lens and pose belong to the stored pixels, which EXIF must not turn
        paths = (Path(record.source) / record.files[number] for number in numbers)
        yield from (np.asarray(read_picture(path, upright=upright)) for path in paths)
    else:
        yield from (frame.rgb() for frame in _nearest_frames(Path(record.source), record.times[numbers].tolist()))


def _nearest_frames(path: Path, times: list[float]) -> Iterator[FilmFrame]:
    """Yields the frame nearest to each time, in one pass."""
    previous: FilmFrame | None = None
    waiting = 0
    for frame in film_frames(path):
        while waiting < len(times) and times[waiting] <= frame.time:
            is_nearer = previous is not None and times[waiting] - previous.time < frame.time - times[waiting]
            yield previous if previous is not None and is_nearer else frame
            waiting += 1
        if waiting == len(times):
            return
        previous = frame
    last = times[waiting:]
    if previous is not None and len(last) == 1 and last[0] - previous.time < 0.1:
        yield previous  # time stamps of other tools may lie a little after the film's last frame


def _median_fov(folder: Path, windows: list[Window], config: ClipSetConfig) -> float:
    """The horizontal angle of view of the cropped pictures, degrees; the configuration's, if no lens is known."""
    lenses = np.concatenate([np.load(path) for path in sorted(folder.glob("intrinsics_*.npy"))])
    known = [lens[0] for lens, window in zip(lenses, windows, strict=True) if window.is_labelled]
    return math.degrees(2 * math.atan(0.5 / float(np.median(known)))) if known else config.horizontal_fov_deg
