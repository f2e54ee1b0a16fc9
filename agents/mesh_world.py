"""A world without a network: a textured mesh in metres, ray-cast off screen by trimesh and Embree."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import trimesh
from tensordict import TensorDict
from torch import Tensor
from trimesh.visual.material import SimpleMaterial

from agents.mesh_room import make_room
from cc2env.protocol import WorldSpec, WorldState, check_intrinsics, check_seeds, check_segment, frame_poses

_FROM_GLTF = np.diag([1.0, -1.0, -1.0, 1.0])  # y up, z back: to the camera's axes, y down, z forward
_LIGHT, _SKY = np.array([0.3, -0.8, -0.5]), (150.0, 180.0, 220.0)


class MeshWorld:
    """The `scene.glb` of a folder, or a generated room; an episode begins in the middle, turned by the seed."""

    joins_segments, start_arguments = True, frozenset({"intrinsics"})

    def __init__(self, folder: Path | None = None, height: int = 48, width: int = 80) -> None:
        self._mesh = make_room() if folder is None else trimesh.load_mesh(folder / "scene.glb")
        self._mesh.apply_transform(_FROM_GLTF)
        material, focal = self._mesh.visual.material, 0.5 / math.tan(math.radians(75) / 2)
        self._image = material.image if isinstance(material, SimpleMaterial) else material.baseColorTexture
        self.spec = WorldSpec(height=height, width=width, intrinsics=(focal, focal * width / height, 0.5, 0.5))

    def start(
        self, seeds: Sequence[int], prompts: object = None, images: object = None, intrinsics: Tensor | None = None
    ) -> tuple[WorldState, Tensor]:
        """See `WorldModel.start`."""
        if prompts is not None or images is not None:
            raise ValueError("prompts, images: expected none, a mesh is what it is; choose another world")
        number = torch.tensor(check_seeds(seeds))
        lens, poses = check_intrinsics(intrinsics, self.spec, len(number)), torch.eye(4).repeat(len(number), 1, 1)
        turns = [trimesh.transformations.rotation_matrix(float(seed), (0, 1, 0)) for seed in number]
        place = torch.from_numpy(trimesh.transformations.translation_matrix(self._mesh.bounds.mean(axis=0)) @ turns)
        memory = TensorDict({"place": place}, [len(number)])
        state = WorldState(poses, lens, number, torch.zeros_like(number), memory, batch_size=[len(number)])
        return state, self._look(state, poses[:, None])

    def extend(self, state: WorldState, c2w: Tensor) -> tuple[WorldState, Tensor]:
        """See `WorldModel.extend`."""
        c2w, after = check_segment(state, c2w, self.spec, joins=True), state.clone()
        after.c2w, after.step = c2w[:, -1].clone(), state.step + c2w.shape[1] // self.spec.poses_per_clip
        return after, self._look(state, frame_poses(state.c2w, c2w, self.spec.frames_per_pose))

    def render_views(self, state: WorldState, c2w: Tensor) -> tuple[Tensor, Tensor]:
        """See `RendersViews`."""
        return self._look(state, c2w), torch.from_numpy(self._cast(state, c2w, 1)[1]).float()

    def _look(self, state: WorldState, c2w: Tensor) -> Tensor:
        faces, depth, points = self._cast(state, c2w, 2)  # 2 x 2 rays for each pixel
        hit, colours, mesh, faces = faces >= 0, np.full((*depth.shape, 3), _SKY), self._mesh, faces[faces >= 0]
        weights = trimesh.triangles.points_to_barycentric(mesh.triangles[faces], points[hit])
        uv = np.einsum("nc,ncd->nd", weights, mesh.visual.uv[mesh.faces[faces]])
        shade = 0.6 + 0.4 * np.abs(mesh.face_normals[faces] @ _LIGHT)
        colours[hit] = trimesh.visual.color.uv_to_interpolated_color(uv, self._image)[:, :3] * shade[:, None]
        b, f, h, w = depth.shape
        pixels = colours.reshape(b, f, h // 2, 2, w // 2, 2, 3).mean(axis=(3, 5))
        return torch.from_numpy(pixels.round().clip(0, 255).astype(np.uint8))

    def _cast(self, state: WorldState, c2w: Tensor, finer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Faces, z-depths (infinite where there is nothing) and points that the pixels' rays meet, `[b, f, h, w]`."""
        h, w = self.spec.height * finer, self.spec.width * finer
        v, u = np.meshgrid((np.arange(h) + 0.5) / h, (np.arange(w) + 0.5) / w, indexing="ij")
        fx, fy, cx, cy = state.intrinsics.double().numpy().T[..., None, None]
        rays = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones((len(fx), h, w))], axis=-1)  # of z-depth 1
        poses = (state.memory["place"][:, None] @ c2w.double()).numpy()
        rays = np.einsum("bfij,bhwj->bfhwi", poses[..., :3, :3], rays)
        origins = np.broadcast_to(poses[:, :, None, None, :3, 3], rays.shape)
        faces = self._mesh.ray.intersects_first(origins.reshape(-1, 3), rays.reshape(-1, 3)).reshape(rays.shape[:-1])
        normals, corners = self._mesh.face_normals[faces], self._mesh.triangles[faces][..., 0, :]
        depth = ((corners - origins) * normals).sum(-1) / (rays * normals).sum(-1)
        return faces, np.where(faces < 0, np.inf, depth), origins + depth[..., None] * rays
