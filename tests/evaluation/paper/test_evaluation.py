"""A folder of films is judged film by film: bad ones are named and stop nothing, and a stopped run goes on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")
pytest.importorskip("av")

from model.cli.evaluate import run_paper
from model.curation.ledger import read_ledger
from model.curation.poses import PosesConfig
from model.curation.steps import Tools
from model.data.video_io import write_video
from model.estimators.optical_flow import DISFlow
from model.estimators.sfm import Reconstruction, ReconstructionFailed
from model.evaluation.paper import evaluation
from model.evaluation.paper.evaluation import PaperReport, evaluate_films
from model.evaluation.paper.report import write_paper_report
from model.evaluation.paper.settings import PaperConfig
from model.geometry import se3
from model.geometry.camera import default_intrinsics, project, unproject

FRAMES = 8
PATH = se3.exp(torch.arange(FRAMES)[:, None] * torch.tensor([0.1, 0.02, 0.03, 0.0, 0.05, 0.0]))
# what the planted path says of the pictures is not what they show
LOOSE = PosesConfig(max_flow_distance=1e4, min_flow_share=0.0, max_epipolar_excess=1.0, max_mean_epipolar_excess=1.0)


def planted_sfm(frames: torch.Tensor, masks: object, intrinsics: object) -> Reconstruction:
    """The true path in another unit of length; none for a film whose pictures are all the same."""
    if (frames == frames[0]).all():
        raise ReconstructionFailed("no model: the film stands still")
    c2w = PATH.clone()
    c2w[:, :3, 3] *= 5
    uv = 0.1 + 0.8 * torch.rand(60, 2, generator=torch.Generator().manual_seed(0))
    points = unproject(uv, torch.full((60,), 40.0), c2w[0], default_intrinsics())
    seen = torch.cat([project(points, pose, default_intrinsics())[0] for pose in c2w])
    return Reconstruction(
        registered=torch.ones(FRAMES, dtype=torch.bool),
        c2w=c2w,
        intrinsics=default_intrinsics(),
        points=points,
        frame_of=torch.arange(FRAMES).repeat_interleave(60),
        point_of=torch.arange(60).repeat(FRAMES),
        pixels=seen * torch.tensor([64, 48]),
        reprojection_error=0.0,
    )


def planted_tools(_: object) -> Tools:
    return Tools(flow=DISFlow("ultrafast"), sfm=planted_sfm)


def write_film(path: Path, num_frames: int = FRAMES, height: int = 48, width: int = 64, seed: int = 0) -> None:
    noise = torch.rand(1, 3, 16, 40, generator=torch.Generator().manual_seed(seed))
    wide = torch.nn.functional.interpolate(noise, (height, 3 * width), mode="bicubic").clamp(0, 1)[0]
    frames = torch.stack([wide[:, :, 2 * i : 2 * i + width] for i in range(num_frames)])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (frames * 255).byte().movedim(1, -1).contiguous(), 12)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good films and their paths."""
    for seed, name in enumerate(("one", "two")):
        write_film(tmp_path / "films" / f"{name}.mp4", seed=seed)
        (tmp_path / "poses").mkdir(exist_ok=True)
        np.save(tmp_path / "poses" / f"{name}.npy", PATH.numpy())
    return tmp_path


def config(folder: Path, **settings: object) -> PaperConfig:
    base: dict[str, object] = {"videos": f"{folder}/films", "poses": f"{folder}/poses", "pictures": False}
    base |= {"out": f"{folder}/out/paper.json", "solved": LOOSE}
    return PaperConfig(**{**base, **settings})


def judge(folder: Path, **settings: object) -> PaperReport:
    return evaluate_films(config(folder, **settings), planted_tools)


def named(report: PaperReport) -> dict[str, object]:
    return {Path(each.source).stem: each for each in report.results}


def test_a_planted_path_in_another_unit_has_no_error(folder):
    report = judge(folder)
    assert report.summary["solved_share"] == 1
    assert report.summary["trans_err"] == pytest.approx(0, abs=1e-5)
    assert report.summary["rot_err_deg"] == pytest.approx(0, abs=1e-3)


def test_a_film_that_the_first_mapper_cannot_solve_is_solved_by_the_other(folder):
    def none(frames, masks, intrinsics):
        raise ReconstructionFailed("no model")

    tools = Tools(flow=DISFlow("ultrafast"), sfm=none, other_sfm=planted_sfm)
    assert evaluate_films(config(folder), lambda _: tools).summary["solved_share"] == 1
    neither = Tools(flow=DISFlow("ultrafast"), sfm=none)
    report = evaluate_films(config(folder, out=f"{folder}/neither.json"), lambda _: neither)
    assert report.summary["solved_share"] == 0


def test_bad_films_are_named_and_the_rest_is_measured(folder):
    write_film(folder / "films/still_picture.mp4", num_frames=1)
    write_film(folder / "films/other_size.mp4", height=64)
    (folder / "films/broken.mp4").write_bytes(b"no film")
    write_film(folder / "films/frozen.mp4", seed=3)
    frozen = torch.zeros(FRAMES, 48, 64, 3, dtype=torch.uint8) + 90
    write_video(folder / "films/frozen.mp4", frozen, 12)
    np.save(folder / "poses/frozen.npy", PATH.numpy())
    write_film(folder / "films/pathless.mp4", seed=4)
    write_film(folder / "films/short_path.mp4", seed=5)
    np.save(folder / "poses/short_path.npy", PATH[:3].numpy())
    report = judge(folder)
    films = named(report)
    assert "expected two frames or more, got one" in films["still_picture"].reasons["read"]
    assert "expected 64 x 48 pixels" in films["other_size"].reasons["read"]
    assert "expected a film" in films["broken"].reasons["read"]
    assert "no model" in films["frozen"].unsolved and films["frozen"].metrics["motion_strength_px"] == 0
    assert "found none" in films["pathless"].reasons["path"] and films["pathless"].solved
    assert "expected a pose for each of 8 frames, got 3" in films["short_path"].reasons["path"]
    assert not films["one"].reasons and not films["two"].reasons
    assert report.summary["films_measured"] == 5
    assert report.summary["solved_share"] == pytest.approx(4 / 5)
    assert report.summary["trans_err_films"] == 2


def test_the_ledger_and_the_report_say_what_was_lost(folder):
    (folder / "films/broken.mp4").write_bytes(b"no film")
    settings = config(folder, pictures=True)
    tables = write_paper_report(settings, evaluate_films(settings, planted_tools))
    verdicts = {line.id.partition("-")[0]: line.verdict for line in read_ledger(folder / "out/paper_ledger.jsonl")}
    assert verdicts == {"one": "kept", "two": "kept", "broken": "rejected"}
    written = json.loads((folder / "out/paper.json").read_text())
    assert set(written) == {"summary", "standard_errors", "networks", "per_clip", "config"}
    assert "TransErr" in tables and "expected a film" in (folder / "out/paper.md").read_text()
    assert (folder / "out/paper_paths.png").is_file()
    assert len(list((folder / "out/paper_films").glob("*.png"))) == 2


def test_a_run_goes_on_where_it_stopped_and_does_anew_only_what_changed(folder):
    first = judge(folder)
    kept = {path: path.stat().st_mtime_ns for path in (folder / "out/paper_films").glob("*.json")}
    np.save(folder / "poses/two.npy", PATH.flip(0).numpy())
    second = judge(folder)
    changed = {path.name.partition("-")[0] for path, time in kept.items() if path.stat().st_mtime_ns != time}
    assert changed == {"two"}
    assert second.summary["trans_err"] > first.summary["trans_err"]
    next(iter(kept)).write_text("{")
    assert judge(folder).summary == second.summary


def test_the_distance_is_named_after_the_network_and_grows_with_the_difference(folder):
    for seed in range(6):
        write_film(folder / f"reference/{seed}.mp4", seed=seed)
    near = judge(folder, reference=f"{folder}/reference")
    assert "fvd" not in near.summary and near.networks["frechet_lab"].startswith("lab network ")
    for film in (folder / "films").iterdir():
        write_video(film, torch.full((FRAMES, 48, 64, 3), 255, dtype=torch.uint8), 12)
    far = judge(folder, reference=f"{folder}/reference")
    assert far.summary["frechet_lab"] > near.summary["frechet_lab"] > 0


def test_films_of_one_folder_are_clips_of_one_scene(folder):
    for seed in (0, 1):
        write_film(folder / f"tour/films/scene/clip_{seed}.mp4", seed=seed)
    report = judge(folder, videos=f"{folder}/tour/films", poses=None)
    assert len({each.scene for each in report.results}) == 1
    assert -1 <= report.summary["lab_consistency"] <= 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"videos": "nowhere"}, "videos: expected films"),
        ({"poses": "nowhere"}, "poses: expected a folder"),
        ({"reference": "nowhere"}, "videos: expected films"),
    ],
)
def test_folders_that_are_not_there_are_named_before_anything_is_measured(folder, settings, said):
    with pytest.raises(FileNotFoundError, match=said):
        judge(folder, **settings)


def test_settings_without_effect_are_refused(folder):
    with pytest.raises(ValueError, match="poses: expected none with camera=false"):
        config(folder, camera=False)
    with pytest.raises(ValueError, match="videos, world: expected a folder of films or a world, got neither"):
        run_paper(PaperConfig(out=f"{folder}/paper.json"))
    with pytest.raises(ValueError, match="poses: expected none beside world"):
        config(folder, videos=None, world="tiny")
    with pytest.raises(ValueError, match="search: expected the default without world"):
        config(folder, search=True)
    with pytest.raises(ValueError, match=r"out: expected a file name that ends in \.json"):
        run_paper(PaperConfig(out="paper.txt", videos="x"))


def test_a_world_is_flown_once_and_its_films_are_judged_against_the_truth(folder, monkeypatch):
    monkeypatch.setattr(evaluation.evaluate_films, "__defaults__", (planted_tools,))
    settings = PaperConfig(
        out=f"{folder}/world.json", world="synthetic", num_scenes=1, num_clips=1, camera=False, pictures=False
    )
    first = run_paper(settings)
    films = {path: path.stat().st_mtime_ns for path in folder.glob("world_world/*/*")}
    assert {path.parent.name for path in films} == {"films", "reference", "poses"}
    assert run_paper(settings).summary == first.summary
    assert {path: path.stat().st_mtime_ns for path in films} == films
    # the renderer itself: its films are the truth
    assert first.summary["frechet_lab"] is None or first.summary["frechet_lab"] < 1e-3
    assert json.loads((folder / "world.json").read_text())["config"]["world"] == "synthetic"
