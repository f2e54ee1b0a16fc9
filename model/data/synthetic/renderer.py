"""Renders scenes by analytic ray casting: frames, metric z-depth and masks of moving objects for any camera and size.

Renders one frame at a time so that its arrays stay in cache; an object costs only the rectangle it projects to. Colours
are supersampled with a filter a little wider than a pixel; depth and mask belong to the ray through the pixel centre.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor

from model.data.synthetic import shading
from model.data.synthetic.casting import Layout, cast_at_objects, layouts, trace
from model.data.synthetic.rays import Array, Camera, Rays, camera_with_samples, cast, ground_depth, windows
from model.data.synthetic.scene import Scene
from model.data.synthetic.shadows import darken_by_shadows

_BORDER = 2  # samples beyond the picture that the filter needs


@dataclass(frozen=True)
class RenderedClip:
    """Frames of a scene along a camera path, with ground truth.

    Attributes:
        frames: colours in [0, 255].
        depth: metres along the optical axis; infinite where the sky is seen.
        moving_mask: True where the pixel's centre sees an object that moves (not its shadow).
        objects: index in the scene of the object that the pixel's centre sees; -1 where it sees none.
    """

    frames: UInt8[Tensor, "f h w 3"]
    depth: Float[Tensor, "f h w"]
    moving_mask: Bool[Tensor, "f h w"]
    objects: Int[Tensor, "f h w"]


def render(
    scene: Scene,
    c2w: Float[Tensor, "f 4 4"],
    intrinsics: Float[Tensor, "f 4"] | Float[Tensor, "4"],
    times: Float[Tensor, " f"],
    height: int,
    width: int,
    supersample: int = 2,
) -> RenderedClip:
    """Frames, depth and moving-object mask of `scene` for every pose in scene coordinates and every time in seconds.

    Colours have `supersample` squared samples a pixel.

    Raises:
        ValueError: a shape or value is not as described.
    """
    _check(c2w, intrinsics, times, height, width, supersample)
    frames = render_frames(scene, c2w, intrinsics, times, height, width, supersample)
    depth = np.empty((len(c2w), height, width), np.float32)
    objects = np.empty((len(c2w), height, width), np.int64)
    for index, (pose, lens, layout) in enumerate(_instants(scene, c2w, intrinsics, times)):
        camera = camera_with_samples(pose, lens, height, width, supersample=1, border=0)
        depth[index], objects[index] = trace(scene, camera, layout)
    does_move = np.array([item.motion is not None for item in scene.objects] + [False])  # the last: index -1, no object
    moving = torch.from_numpy(does_move[objects])
    return RenderedClip(frames, torch.from_numpy(depth), moving, torch.from_numpy(objects))


def render_frames(
    scene: Scene,
    c2w: Float[Tensor, "f 4 4"],
    intrinsics: Float[Tensor, "f 4"] | Float[Tensor, "4"],
    times: Float[Tensor, " f"],
    height: int,
    width: int,
    supersample: int = 2,
) -> UInt8[Tensor, "f {height} {width} 3"]:
    """The frames of `render` alone."""
    _check(c2w, intrinsics, times, height, width, supersample)
    frames = np.empty((len(c2w), height, width, 3), np.uint8)
    for index, (pose, lens, layout) in enumerate(_instants(scene, c2w, intrinsics, times)):
        camera = camera_with_samples(pose, lens, height, width, supersample, _BORDER)
        frames[index] = _to_pixels(_paint(scene, camera, layout), supersample)
    return torch.from_numpy(frames)


def _check(c2w: Tensor, intrinsics: Tensor, times: Tensor, height: int, width: int, supersample: int) -> None:
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or not bool(torch.isfinite(c2w).all()):
        raise ValueError(f"c2w: expected finite poses [f, 4, 4], got shape {list(c2w.shape)}")
    if intrinsics.shape not in ((4,), (len(c2w), 4)) or not bool((intrinsics[..., :2] > 0).all()):
        raise ValueError(
            f"intrinsics: expected fx, fy, cx, cy with positive fx, fy, shape [4] or [{len(c2w)}, 4], "
            f"got shape {list(intrinsics.shape)}"
        )
    if times.shape != (len(c2w),) or not bool(torch.isfinite(times).all()):
        raise ValueError(f"times: expected {len(c2w)} finite seconds, one a pose, got shape {list(times.shape)}")
    for name, value in (("height", height), ("width", width), ("supersample", supersample)):
        if value < 1:
            raise ValueError(f"{name}: expected at least 1, got {value}")


def _instants(
    scene: Scene, c2w: Tensor, intrinsics: Tensor, times: Tensor
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], Layout]]:
    """Pose [4, 4], intrinsics [4] and layout of every frame."""
    poses = c2w.detach().cpu().double().numpy()
    lenses = intrinsics.detach().cpu().double().expand(len(c2w), 4).numpy()
    return zip(poses, lenses, layouts(scene, times.detach().cpu().double().numpy()), strict=True)


def _paint(scene: Scene, camera: Camera, layout: Layout) -> Array:
    """Colours [3, rows, columns] of one frame's samples: sky, ground with shadows, then the objects."""
    rays = cast(camera, scene.sun_direction)
    haze = shading.haze(scene, rays.sun_cosine)
    ground_rows, sky_rows, depth = ground_depth(rays)
    picture = np.empty_like(haze)
    nearest = np.full(rays.length.shape, np.inf, np.float32)
    if sky_rows.stop > sky_rows.start:
        picture[:, sky_rows] = shading.sky(scene, rays.window(sky_rows), haze[:, sky_rows])
    if ground_rows.stop > ground_rows.start:
        nearest[ground_rows] = depth
        finite = np.minimum(depth, np.float32(1e4))
        light = _light(scene, camera, layout, rays, ground_rows, finite)
        colour = shading.ground(scene, rays.window(ground_rows), haze[:, ground_rows], finite, light)
        np.copyto(picture[:, ground_rows], colour, where=np.isfinite(depth))
    _paint_objects(scene, camera, rays, layout, haze, nearest, picture)
    return picture


def _paint_objects(
    scene: Scene, camera: Camera, rays: Rays, layout: Layout, haze: Array, nearest: Array, picture: Array
) -> None:
    """Paints the objects into `picture` in place; a nearer one, later, paints over a farther one."""
    for hit in cast_at_objects(scene, camera, rays, layout, nearest):
        item, part = scene.objects[hit.index], rays.window(*hit.window)
        depth = np.where(hit.visible, nearest[hit.window], np.float32(1))
        x, y, z = (
            depth * way + np.float32(start - middle)
            for way, start, middle in zip(part.direction, rays.origin, (item.x, 0.0, item.z), strict=True)
        )
        colour = shading.shade(scene, hit.index, layout, (x, y, z), hit.normal)
        window = (slice(None), *hit.window)
        colour = shading.through_air(scene, colour, haze[window], depth * part.length)
        np.copyto(picture[window], colour, where=hit.visible)


def _light(scene: Scene, camera: Camera, layout: Layout, rays: Rays, rows: slice, depth: Array) -> Array:
    """Share of light that the objects' shadows leave on the ground [rows, columns]."""
    light = np.ones_like(depth)
    if not scene.objects:
        return light
    if scene.scenery.cast_shadows:
        darken_by_shadows(scene, camera, layout, rays, rows, depth, light)
        return light
    blobs = [shading.shadow(scene, item, place) for item, place in zip(scene.objects, layout.offset, strict=True)]
    centre = np.array([[blob.x, 0, blob.z] for blob in blobs])
    spread = np.array([[blob.reach, 0, blob.reach] for blob in blobs])
    for blob, window in zip(blobs, windows(camera, centre - spread, centre + spread), strict=True):
        if window is None or window[0].stop <= rows.start or window[0].start >= rows.stop:
            continue
        seen = slice(max(window[0].start, rows.start), min(window[0].stop, rows.stop))
        part = rays.window(seen, window[1])
        inside = (slice(seen.start - rows.start, seen.stop - rows.start), window[1])
        x = depth[inside] * part.direction[0] + np.float32(rays.origin[0] - blob.x)
        z = depth[inside] * part.direction[2] + np.float32(rays.origin[2] - blob.z)
        light[inside] *= shading.shadow_light(scene, blob, x, z)
    return light


def _to_pixels(picture: Array, supersample: int) -> NDArray[np.uint8]:
    """Filters samples (with their border) to pixels [h, w, 3].

    The filter is a box over the pixel after [1 4 6 4 1] / 16 over samples: at 2x2 it reaches a pixel into the
    neighbours, which hides staircases and is easier to compress than a plain box.
    """
    if supersample == 1:
        pixels = picture[:, _BORDER:-_BORDER, _BORDER:-_BORDER]
    else:
        picture = _narrow(_narrow(picture, supersample).swapaxes(1, 2), supersample).swapaxes(1, 2)
        pixels = picture / np.float32(256 * supersample * supersample)
    return np.ascontiguousarray((np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


def _narrow(picture: Array, supersample: int) -> Array:
    """The unnormalised filter along the rows of [3, rows, columns]."""
    picture = picture[:, :-2] + 2 * picture[:, 1:-1] + picture[:, 2:]
    picture = picture[:, :-2] + 2 * picture[:, 1:-1] + picture[:, 2:]
    total = picture[:, ::supersample].copy()
    for shift in range(1, supersample):
        total += picture[:, shift::supersample]
    return total
