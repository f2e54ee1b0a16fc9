"""A room with furniture, made by trimesh: eight by six metres, every surface textured, so that no asset is needed."""

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import SimpleMaterial

_METRES_PER_TEXTURE = 6.0


def make_room(seed: int = 0) -> trimesh.Trimesh:
    """A mesh in metres and glTF's axes (y up), with one picture as its texture."""
    random = np.random.default_rng(seed)
    room = trimesh.creation.box((8.0, 3.0, 6.0))
    room.invert()  # it is seen from inside
    pieces = [room]
    for angle in np.arange(6) * np.pi / 3:  # round the middle, which stays free
        size, away = random.uniform((0.5, 0.4, 0.5), (1.2, 1.8, 1.2)), random.uniform(1.9, 2.6)
        place = (1.2 * away * np.cos(angle), size[1] / 2 - 1.5, 0.9 * away * np.sin(angle))
        pieces.append(trimesh.creation.box(size, trimesh.transformations.translation_matrix(place)))
    mesh = trimesh.util.concatenate(pieces)
    mesh.unmerge_vertices()  # every face gets its own corners, and so its own place in the texture
    faces_along = np.abs(mesh.face_normals).argmax(axis=1)
    across = np.array([(2, 1), (0, 2), (0, 1)])[faces_along]
    corners = np.take_along_axis(mesh.triangles, across[:, None], axis=2) / _METRES_PER_TEXTURE
    uv = np.empty((len(mesh.vertices), 2))
    uv[mesh.faces] = corners + 0.37 * faces_along[:, None, None]
    mesh.visual = TextureVisuals(uv=uv, material=SimpleMaterial(image=_picture(random)))
    return mesh


def _picture(random: np.random.Generator) -> Image.Image:
    """Blots of three sizes, 50 to 5 cm: structure from motion matches the small ones."""
    layers = [
        np.asarray(
            Image.fromarray(random.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(
                (864, 864), Image.Resampling.BICUBIC
            )
        )
        for n in (12, 36, 108)
    ]
    return Image.fromarray(np.average(layers, axis=0, weights=(3, 2, 2)).round().astype(np.uint8))
