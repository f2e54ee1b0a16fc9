"""One COLMAP reconstruction in a separate process: `python colmap_worker.py FOLDER`, started by `sfm.ColmapSfM`.

COLMAP gets its own process because its libraries clash with those of other packages (images then hang or abort), and
because a crash of native code must lose one clip, not a run. FOLDER holds `job.json`, `images/` and, if there are any,
`masks/`; the result is `result.npz`. The worker imports none of our modules, so that it starts fast.
"""

import json
import os
import sys
import threading
import time
import zlib  # noqa: F401  before pycolmap, whose own copy breaks PNG otherwise
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

_UNKNOWN = 10.0  # ten times the focal length: as good as unknown


def main(folder: Path) -> None:
    """Reads the job and writes `result.npz`, which holds only statistics if there is no model."""
    job = json.loads((folder / "job.json").read_text())
    pycolmap.set_random_seed(job["seed"])
    database = folder / "database.db"
    _match(folder, database, job)
    models = _map(folder, database, job)
    statistics = _statistics(database)
    best = max(models.values(), key=lambda model: (model.num_reg_images(), model.num_points3D()), default=None)
    arrays = {} if best is None else _arrays(best, job["num_frames"])
    if best is not None:
        arrays["lens_deviation"] = 0.0 if job["camera_params"] else _lens_deviation(best)
    everything: dict[str, Any] = {"num_models": len(models), **statistics, **arrays}
    np.savez(folder / "result.npz", **everything)


def _match(folder: Path, database: Path, job: dict[str, Any]) -> None:
    reader = pycolmap.ImageReaderOptions(camera_model=job["camera_model"])
    if job["camera_params"]:
        reader.camera_params = ",".join(map(repr, job["camera_params"]))
    if job["masked"]:
        reader.mask_path = folder / "masks"
    extraction = pycolmap.FeatureExtractionOptions(num_threads=job["num_threads"], use_gpu=False)
    extraction.sift.max_num_features = job["max_features"]
    extraction.sift.peak_threshold = job["peak_threshold"]
    device = pycolmap.Device.cpu
    mode = pycolmap.CameraMode.SINGLE
    pycolmap.extract_features(
        database,
        folder / "images",
        camera_mode=mode,
        reader_options=reader,
        extraction_options=extraction,
        device=device,
    )
    matching = pycolmap.FeatureMatchingOptions(num_threads=job["num_threads"], use_gpu=False)
    pairing = pycolmap.SequentialPairingOptions(overlap=job["overlap"], num_threads=job["num_threads"])
    verification = pycolmap.TwoViewGeometryOptions()
    verification.ransac.random_seed = job["seed"]
    verification.ransac.max_error = job["max_error"]
    pycolmap.match_sequential(database, matching, pairing, verification, device=device)


def _map(folder: Path, database: Path, job: dict[str, Any]) -> dict[int, Any]:
    (folder / "models").mkdir()
    places = (database, folder / "images", folder / "models")
    if job["mapper"] == "global":
        return dict(pycolmap.global_mapping(*places, _global_options(job)))
    return dict(pycolmap.incremental_mapping(*places, _incremental_options(job)))


def _global_options(job: dict[str, Any]) -> Any:
    options = pycolmap.GlobalPipelineOptions(num_threads=job["num_threads"], random_seed=job["seed"])
    adjustment = options.mapper.bundle_adjustment
    adjustment.refine_focal_length = adjustment.refine_extra_params = not job["camera_params"]
    adjustment.ceres.use_gpu = options.mapper.global_positioning.use_gpu = False
    return options


def _incremental_options(job: dict[str, Any]) -> Any:
    is_free = not job["camera_params"]
    options = pycolmap.IncrementalPipelineOptions(
        num_threads=job["num_threads"],
        random_seed=job["seed"],
        min_model_size=3,
        extract_colors=False,
        ba_refine_focal_length=is_free,
        ba_refine_extra_params=is_free,
    )
    mapper, triangulation = options.mapper, options.triangulation
    mapper.init_min_tri_angle = job["init_angle"]
    mapper.init_max_error = mapper.filter_max_reproj_error = job["max_error"]
    triangulation.merge_max_reproj_error = triangulation.complete_max_reproj_error = job["max_error"]
    mapper.abs_pose_refine_focal_length = mapper.abs_pose_refine_extra_params = is_free
    return options


def _lens_deviation(model: Any) -> float:
    """Standard deviation of the focal length, divided by it, from the covariance of the bundle adjustment."""
    config = pycolmap.BundleAdjustmentConfig()
    for identity in model.reg_image_ids():
        config.add_image(identity)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    options = pycolmap.BundleAdjustmentOptions(refine_extra_params=False)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
    covariance = pycolmap.estimate_ba_covariance(pycolmap.BACovarianceOptions(), model, adjuster)
    camera = next(iter(model.cameras.values()))
    variance = None if covariance is None else covariance.get_other_params_cov(camera.params)
    if variance is None or not variance[0, 0] >= 0:
        return _UNKNOWN
    # the covariance assumes keypoints that are one pixel off
    deviation = np.sqrt(variance[0, 0]) * model.compute_mean_reprojection_error() / camera.params[0]
    return min(float(deviation), _UNKNOWN)


def _statistics(path: Path) -> dict[str, int]:
    database = pycolmap.Database.open(path)
    _, inliers = database.read_two_view_geometry_num_inliers()
    statistics = {"num_keypoints": database.num_keypoints(), "num_pairs": sum(count > 0 for count in inliers)}
    database.close()
    return statistics


def _arrays(model: Any, num_frames: int) -> dict[str, Any]:
    """Poses c2w [f 4 4], points [p 3] and observations, pixels counted from the picture's upper left corner."""
    c2w = np.tile(np.eye(4), (num_frames, 1, 1))
    registered = np.zeros(num_frames, dtype=bool)
    rows = {identity: row for row, identity in enumerate(model.points3D)}
    frame_of, point_of, pixels = [], [], []
    for image in (model.images[identity] for identity in sorted(model.reg_image_ids())):
        index = int(Path(image.name).stem)
        registered[index] = True
        c2w[index, :3] = image.cam_from_world().inverse().matrix()
        for seen in image.get_observation_points2D():
            frame_of.append(index)
            point_of.append(rows[seen.point3D_id])
            pixels.append(seen.xy)
    camera = next(iter(model.cameras.values()))
    fx, fy = camera.focal_length_x, camera.focal_length_y
    lens = [fx, fy, camera.principal_point_x, camera.principal_point_y]
    return {
        "registered": registered,
        "c2w": c2w,
        "lens": np.array(lens),
        "points": np.array([point.xyz for point in model.points3D.values()]).reshape(-1, 3),
        "frame_of": np.array(frame_of, dtype=np.int64),
        "point_of": np.array(point_of, dtype=np.int64),
        "pixels": np.array(pixels, dtype=np.float64).reshape(-1, 2),
        "reprojection_error": model.compute_mean_reprojection_error(),
    }


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    main(Path(sys.argv[1]))
