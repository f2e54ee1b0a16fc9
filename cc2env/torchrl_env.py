"""`CameraCtrlWorld-v0` for TorchRL: a native batched `EnvBase` whose clips and states stay on the model's device."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, SupportsIndex

import numpy as np
import torch
from tensordict import TensorDict, TensorDictBase
from torchrl.data import Bounded, Categorical, Composite, TensorSpec, Unbounded
from torchrl.envs import EnvBase

from cc2env import MAX_EPISODE_STEPS, TASK_EPISODE_STEPS, spaces
from cc2env.actions import check_action
from cc2env.arguments import read_arguments
from cc2env.episodes import Episodes
from cc2env.shared_world import SharedWorld
from cc2env.snapshot import EnvSnapshot
from cc2env.world_properties import WorldProperties
from model.world.protocol import WorldModel


class CameraCtrlWorldTorchRLEnv(WorldProperties, EnvBase):
    """`num_envs` cameras, each in a world of its own; batch size [num_envs], one batched call for each step.

    After `set_seed(s)`, row i draws what the single environment (`cc2env.env.CameraCtrlWorldEnv`) draws with seed
    s + i; actions, clips, prompts and poses mean the same. The caller resets a row that is over through the mask
    `_reset`, as collectors and `step_and_maybe_reset` do.

    | Entry          | Shape                                      | Meaning                                      |
    |----------------|--------------------------------------------|----------------------------------------------|
    | `action`       | float32 [num_envs, poses_per_clip, 6]      | twists, metres and radians                   |
    | `pixels`       | uint8 [num_envs, frames_per_clip, h, w, 3] | the clip; after a reset its first frame only |
    | `c2w`          | float32 [num_envs, poses_per_clip, 4, 4]   | commanded camera-to-world poses, metres      |
    | `achieved_c2w` | float32 [num_envs, poses_per_clip, 4, 4]   | the poses that the camera reached            |
    | `blocked`      | bool [num_envs, 1]                         | whether the way led into an obstacle         |
    | `intrinsics`   | float32 [num_envs, 4]                      | fx fy cx cy divided by width and height      |
    | `clip_index`   | int64 [num_envs, 1]                        | clips since the reset                        |
    | `function_evaluations` | int64 [num_envs, 1]                | samples passed through the network for this  |
    |                |                                            | clip or, after a reset, its first frame      |
    | `reward`       | float32 [num_envs, 1]                      | reward of the task; 0 without a task         |
    | `terminated`   | bool [num_envs, 1]                         | the task has ended                           |
    | `truncated`    | bool [num_envs, 1]                         | after `max_episode_steps` clips              |

    Each key that the task adds to `info` (its goal, say) is an entry and must hold numbers; a scalar is [num_envs, 1].

    `snapshot`, `restore` and `fork` are exact. A snapshot also converts to a tensordict, so that TorchRL's own
    branching works: `env.reset(TensorDict({"snapshot": snapshot.to_tensordict()}, env.batch_size), set_state=True)`.

    Args:
        num_envs: Number of rows.
        world: As in `CameraCtrlWorldEnv`, like all arguments that are not named here.
        max_episode_steps: Clips after which a row is truncated; by default as in `gym.make`. None: never.
        prompt: Prompt of every episode: one text, or one for each row; by default the world chooses.
        image: First frame of every episode: a path, a uint8 array (h, w, 3) or a PIL image.
        device: Device of the network and of all tensors.

    Raises:
        FileNotFoundError: There is no such world.
        ValueError: An argument is out of range or has no effect.
    """

    _supports_set_state = True

    def __init__(
        self,
        num_envs: SupportsIndex = 1,
        world: str | Path | WorldModel | SharedWorld = "tiny",
        *,
        max_episode_steps: SupportsIndex | Literal["registered"] | None = "registered",
        prompt: str | Sequence[str] | None = None,
        image: object = None,
        device: str | torch.device = "cpu",
        **arguments: Any,
    ) -> None:
        if isinstance(world, str | Path):  # a built world has its device
            arguments["device"] = str(device)
        options, task_config = read_arguments(type(self).__init__, arguments)
        task = arguments.get("task")
        if max_episode_steps == "registered":
            max_episode_steps = TASK_EPISODE_STEPS[task] if isinstance(task, str) else MAX_EPISODE_STEPS
        episodes = Episodes(world, options, task_config, num_envs, max_episode_steps)
        # done after a reset: a reset may restore an episode that was over
        super().__init__(device=torch.device(device), batch_size=[episodes.num_rows], allow_done_after_reset=True)
        self._episodes, self._session = episodes, episodes.session
        self._prompts = _prompts_of(prompt, self.num_envs)
        self._image = None if image is None else episodes.picture(image)
        self._make_specs()

    @property
    def num_envs(self) -> int:
        return self._episodes.num_rows

    def set_seeds(self, seeds: Sequence[int]) -> None:
        """Seeds each row separately, from the row's next reset on.

        Raises:
            ValueError: There is not one seed for each row, or one is negative.
        """
        if len(seeds) != self.num_envs:
            raise ValueError(f"seeds: expected one for each of {self.num_envs} rows, got {len(seeds)}")
        self._episodes.seed(range(self.num_envs), [int(seed) for seed in seeds])

    def set_prompt(self, prompt: object, rows: Sequence[int] | None = None) -> None:
        """Changes the prompts of these rows, or of all rows, from their next clip on, as in `CameraCtrlWorldEnv`.

        Args:
            prompt: One text, or a list with one for each row; None in the list keeps a row's prompt.
            rows: Rows to change.

        Raises:
            RuntimeError: `reset` has not been called.
            ValueError: There is not one text for each row, or the world's prompt cannot change in flight.
        """
        self._require_reset("set_prompt")
        self._episodes.set_prompt(prompt, rows)

    def snapshot(self) -> EnvSnapshot:
        """Returns a snapshot of all rows; it shares no memory with the environment.

        Raises:
            RuntimeError: `reset` has not been called.
        """
        self._require_reset("snapshot")
        return self._episodes.snapshot()

    def restore(self, snapshot: EnvSnapshot, rows: Sequence[int] | None = None) -> TensorDict:
        """Restores a snapshot, of this or another environment of the same world; the snapshot stays as it is.

        Args:
            snapshot: One row for each row to restore; `snapshot.fork(env.num_envs)` puts all rows at one moment.
            rows: Rows to restore, in the order of the snapshot's rows; by default all. Other rows go on.

        Returns:
            The observation there: the tensordict to write the next action into.

        Raises:
            RuntimeError: `rows` was given before the first reset of all rows.
            ValueError: It is no snapshot, or its number of rows or its clips differ.
        """
        if rows is not None:
            self._require_reset("restore")
        self._episodes.restore(snapshot, rows)
        return self._observation()

    def fork(self, num_futures: SupportsIndex, row: SupportsIndex = 0) -> "CameraCtrlWorldTorchRLEnv":
        """Returns an environment of this world whose rows all continue from the given row of this one and never end.

        Raises:
            RuntimeError: `reset` has not been called.
            ValueError: num_futures is less than 1.
        """
        snapshot = self.snapshot()[row].fork(num_futures)
        arguments = self._episodes.fork_arguments()
        futures = CameraCtrlWorldTorchRLEnv(num_futures, max_episode_steps=None, device=self.device, **arguments)
        futures.restore(snapshot)
        return futures

    def _reset(self, tensordict: TensorDictBase | None = None, set_state: bool = False, **_: Any) -> TensorDict:
        mask = None if tensordict is None else tensordict.get("_reset", None)
        rows = list(range(self.num_envs)) if mask is None else mask.reshape(self.num_envs).nonzero()[:, 0].tolist()
        if set_state and tensordict is not None:
            if "snapshot" not in tensordict:
                raise ValueError(f"snapshot: expected this entry to set the state, got {sorted(tensordict.keys())}")
            snapshot = EnvSnapshot.from_tensordict(tensordict["snapshot"])
            self._episodes.restore(snapshot[rows], None if mask is None else rows)
        elif rows:
            if len(rows) < self.num_envs:
                self._require_reset("_reset")
            images = None if self._image is None else np.stack([self._image] * len(rows))
            prompts = None if self._prompts is None else [self._prompts[row] for row in rows]
            self._episodes.open(rows, prompts, images)
        return self._observation()

    def _step(self, tensordict: TensorDictBase) -> TensorDict:
        self._require_reset("step")
        twists = check_action(tensordict["action"], (self.num_envs, self._session.poses_per_clip, 6))
        self._session.fly(torch.from_numpy(twists))
        reward = self._session.current.episode_data["reward"].float()[:, None]
        return self._observation().set("reward", reward.to(self.device))

    def _set_seed(self, seed: int | None) -> None:
        if seed is None:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._episodes.seed(range(self.num_envs), [seed + row for row in range(self.num_envs)])

    def _observation(self) -> TensorDict:
        session, now = self._session, self._session.current
        terminated, truncated = self._episodes.terminated()[:, None], self._episodes.truncated()[:, None]
        tasks = [dict(_arrays(session.task_info(row))) for row in range(self.num_envs)]
        entries = {
            "pixels": now.frames,
            "c2w": now.commanded,
            "achieved_c2w": now.episode_data["achieved"],
            "blocked": now.episode_data["blocked"][:, None],
            "intrinsics": now.state.intrinsics,
            "clip_index": now.clip_index[:, None],
            "function_evaluations": session.evaluations[:, None],
            "done": torch.from_numpy(terminated | truncated),
            "terminated": torch.from_numpy(terminated),
            "truncated": torch.from_numpy(truncated),
            **{key: torch.from_numpy(np.stack([each[key] for each in tasks])) for key in tasks[0]},
        }
        return TensorDict(entries, batch_size=self.batch_size, device=self.device).clone()

    def _make_specs(self) -> None:
        session, n, device = self._session, self.num_envs, self.device
        poses, spec = session.poses_per_clip, session.world.spec
        clip = (n, session.frames_per_clip, spec.height, spec.width, 3)
        task = {key: (each.shape, torch.from_numpy(each).dtype) for key, each in _arrays(session.blank_task_info())}
        self.observation_spec = Composite(
            pixels=Bounded(low=0, high=255, shape=clip, dtype=torch.uint8, device=device),
            c2w=self._spec((poses, 4, 4), torch.float32),
            achieved_c2w=self._spec((poses, 4, 4), torch.float32),
            blocked=self._spec((1,), torch.bool),
            intrinsics=self._spec((4,), torch.float32),
            clip_index=self._spec((1,), torch.int64),
            function_evaluations=self._spec((1,), torch.int64),
            **{key: self._spec(*layout) for key, layout in task.items()},
            shape=(n,),
            device=device,
        )
        high = torch.from_numpy(spaces.twist_bounds()).to(device).expand(n, poses, 6).clone()
        self.action_spec = Bounded(low=-high, high=high, shape=high.shape, dtype=torch.float32, device=device)
        self.reward_spec = self._spec((1,), torch.float32)
        flags = {name: self._spec((1,), torch.bool) for name in ("done", "terminated", "truncated")}
        self.done_spec = Composite(**flags, shape=(n,), device=device)

    def _spec(self, shape: tuple[int, ...], dtype: torch.dtype) -> TensorSpec:
        if dtype == torch.bool:
            return Categorical(2, shape=(self.num_envs, *shape), dtype=dtype, device=self.device)
        return Unbounded((self.num_envs, *shape), dtype=dtype, device=self.device)

    def _require_reset(self, call: str) -> None:
        if not self._session.is_started:
            raise RuntimeError(f"{call}: expected running episodes, got none; call env.reset() first")


def _arrays(info: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The task's part of `info` as arrays: numbers have shape [1], Python's floats are float32."""
    for key, value in info.items():
        try:
            array = np.atleast_1d(np.asarray(value))
        except ValueError:  # a list of unequal lists
            array = np.array([None])
        if array.dtype.kind not in "biuf":
            raise ValueError(
                f"info[{key!r}]: expected a number or an array of numbers, got {value!r:.80}; specs know nothing else: "
                "leave it out of the task's info, or fly the Gymnasium environments"
            )
        yield key, array.astype(np.float32) if array.dtype == np.float64 else array


def _prompts_of(prompt: str | Sequence[str] | None, num_envs: int) -> list[str] | None:
    if prompt is None:
        return None
    prompts = [prompt] * num_envs if isinstance(prompt, str) else list(prompt)
    if len(prompts) != num_envs or not all(isinstance(each, str) for each in prompts):
        raise ValueError(f"prompt: expected a string or {num_envs} of them, one for each row, got {prompt!r}")
    return prompts
