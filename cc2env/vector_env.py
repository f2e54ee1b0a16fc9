"""Many episodes of `CameraCtrlWorld-v0` side by side: every step generates all their clips in one batched call."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cc2env import spaces
from cc2env.actions import check_action
from cc2env.arguments import read_arguments, read_options
from cc2env.episodes import Episodes
from cc2env.render_modes import RENDER_MODES, Renderer, check_render_mode
from cc2env.shared_world import SharedWorld, SharedWorldSpec
from cc2env.snapshot import EnvSnapshot
from cc2env.world_properties import WorldProperties
from model.world.protocol import WorldModel


class CameraCtrlWorldVectorEnv(SharedWorldSpec, WorldProperties, VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """`num_envs` cameras, each in a world of its own; `gym.make_vec("CameraCtrlWorld-v0", num_envs=...)`.

    Row i equals the single environment with the same seed: spaces, infos, prompts and ends are those of
    `cc2env.env.CameraCtrlWorldEnv`, stacked as in Gymnasium's own vector environments. In the learned world matrix
    kernels may differ with the batch size, which can change a pixel by 1/255.

    `reset(seed=...)` takes an integer s (row i gets s + i) or one for each row. `reset(options=...)` takes `prompt`
    and `image`, each one for all rows or a list with one for each, and `reset_mask`, a bool array of the rows to
    reset; the others go on. An automatic reset has no options, as in Gymnasium.

    The single environment's snapshots work, too: `envs.restore(snapshot.fork(envs.num_envs))` puts every row at one
    moment, `envs.restore(snapshot, rows=[2])` puts one row there.

    Args:
        num_envs: Number of rows.
        world: As in `CameraCtrlWorldEnv`, like all arguments that are not named here.
        max_episode_steps: Clips after which a row is truncated; `gym.make_vec` gives 64. None: never.
        autoreset_mode: What happens to a row that is over. "SameStep": it is reset in the same step, and `info` has
            `final_obs` and `final_info`. "NextStep": the next step resets it and ignores its action. "Disabled": step
            raises until the row is reset with `reset_mask`.

    Raises:
        FileNotFoundError: There is no such world.
        ValueError: An argument is out of range or has no effect.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": RENDER_MODES,
        "render_fps": 12,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        num_envs: SupportsIndex = 1,
        world: str | Path | WorldModel | SharedWorld = "tiny",
        *,
        max_episode_steps: SupportsIndex | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        check_render_mode(render_mode)
        _check_autoreset(autoreset_mode)
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        options, task_config = read_arguments(type(self).__init__, arguments)
        self._episodes = Episodes(world, options, task_config, num_envs, max_episode_steps)
        self._session, self.num_envs = self._episodes.session, self._episodes.num_rows
        self._renderer = Renderer(self._episodes, "gym.make_vec")
        spec = self._session.world.spec
        self.metadata = {**type(self).metadata, "render_fps": round(spec.fps), "autoreset_mode": self.autoreset_mode}
        self.single_action_space = spaces.action_space(self._session.poses_per_clip)
        self.single_observation_space = spaces.observation_space(self._session.frames_per_clip, spec.height, spec.width)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each row, from which its resets draw."""
        return tuple(self._episodes.generators)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(self._episodes.seeds)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Opens new episodes in all rows, or in those of `options["reset_mask"]`.

        Raises:
            ResetNeeded: A mask was given before the first reset of all rows.
            ValueError: A seed or an option is wrong, or has no use in this world; the episodes go on.
        """
        seeds = self._read_seeds(seed)
        mask, prompts, images = self._read_options(options)
        if not mask.all():
            self._episodes.require_reset("reset_mask")
        rows = np.flatnonzero(mask).tolist()
        self._episodes.seed(rows, [seeds[row] for row in rows])
        chosen = None if prompts is None else [prompts[row] for row in rows]
        self._episodes.open(rows, chosen, None if images is None else images[mask])
        return self._episodes.observations(), self._infos(mask)

    def step(self, actions: object) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Flies every row one clip along its action.

        Raises:
            ResetNeeded: `reset` has not been called, or (autoreset "Disabled") a row that is over was not reset.
            ValueError: The actions have a wrong shape or type, or a number that is not finite or out of bounds; all
                rows stay where they were.
        """
        self._episodes.require_reset("step")
        twists = check_action(actions, (self.num_envs, self._session.poses_per_clip, 6))
        with self._episodes.all_or_nothing():
            if self.autoreset_mode is AutoresetMode.NEXT_STEP:
                return self._step_or_reset(twists)
            over = self._episodes.over()
            if self.autoreset_mode is AutoresetMode.DISABLED and over.any():
                raise ResetNeeded(
                    f"step: expected running episodes, those of rows {np.flatnonzero(over).tolist()} are over; "
                    'call envs.reset(options={"reset_mask": terminations | truncations}) first'
                )
            return self._step_all(twists)

    def set_prompt(self, prompt: object, rows: Sequence[int] | None = None) -> None:
        """Changes the prompts of these rows, or of all rows, from their next clip on, as in `CameraCtrlWorldEnv`.

        Args:
            prompt: One text, or a list with one for each row; None in the list keeps a row's prompt.
            rows: Rows to change.

        Raises:
            ResetNeeded: `reset` has not been called.
            ValueError: There is not one text for each row, or the world's prompt cannot change in flight.
        """
        self._episodes.require_reset("set_prompt")
        self._episodes.set_prompt(prompt, rows)

    def render(self) -> tuple[Any, ...] | None:
        """Returns for each row the last frame ("rgb_array") or the list of its last frames ("rgb_array_list")."""
        return tuple(self._renderer.render(self.render_mode)) or None

    def snapshot(self) -> EnvSnapshot:
        """Returns a snapshot of all rows, for `restore`; it shares no memory with the environment.

        Raises:
            ResetNeeded: `reset` has not been called.
        """
        self._episodes.require_reset("snapshot")
        return self._episodes.snapshot()

    def restore(self, snapshot: EnvSnapshot, rows: Sequence[int] | None = None) -> None:
        """Restores a snapshot, of this or another environment of the same world; the snapshot stays as it is.

        Args:
            snapshot: One row for each row to restore.
            rows: Rows to restore, in the order of the snapshot's rows; by default all. Other rows go on.

        Raises:
            ResetNeeded: `rows` was given before the first reset of all rows.
            ValueError: It is no snapshot, or its number of rows or its clips differ.
        """
        if rows is not None:
            self._episodes.require_reset("restore")
        self._episodes.restore(snapshot, rows)

    def _step_all(self, twists: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """SAME_STEP and DISABLED."""
        observations = self._session.step(twists)
        over, outcome = self._episodes.over(), self._outcome()
        infos: dict[str, Any] = {}
        if self.autoreset_mode is AutoresetMode.SAME_STEP and over.any():
            infos["final_obs"] = np.full(self.num_envs, None, dtype=object)
            for row in np.flatnonzero(over):
                infos["final_obs"][row] = observations[row].copy()
            infos["final_info"] = self._infos(over)
            infos["_final_obs"], infos["_final_info"] = over.copy(), over.copy()
            self._episodes.open(np.flatnonzero(over).tolist())
            observations = self._episodes.observations()
        infos.update(self._infos(np.ones(self.num_envs, bool)))
        return observations, *outcome, infos

    def _step_or_reset(
        self, twists: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """NEXT_STEP: resets the rows that are over, flies the others."""
        over = self._episodes.over()
        flying = np.flatnonzero(~over).tolist()
        if flying:
            self._session.step(twists[flying], rows=flying if over.any() else None)
        if over.any():
            self._episodes.open(np.flatnonzero(over).tolist())
        return self._episodes.observations(), *self._outcome(), self._infos(np.ones(self.num_envs, bool))

    def _outcome(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rewards, terminations, truncations."""
        return self._episodes.rewards(), self._episodes.terminated(), self._episodes.truncated()

    def _infos(self, mask: np.ndarray) -> dict[str, Any]:
        """Infos of the rows in `mask`, stacked in Gymnasium's way: zeros or None elsewhere; `_key` is the mask."""
        return _stack([self._episodes.info(row) for row in range(self.num_envs)], mask)

    def _read_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + row for row in range(self.num_envs)]
        seeds = [None if each is None else int(each) for each in seed]
        if len(seeds) != self.num_envs:
            raise ValueError(f"seed: expected an integer or {self.num_envs} of them, got {len(seeds)}")
        return seeds

    def _read_options(
        self, options: dict[str, Any] | None
    ) -> tuple[np.ndarray, list[str | None] | None, np.ndarray | None]:
        """The mask of rows to reset; prompts and images for every row."""
        options = read_options(options, ("prompt", "image", "reset_mask"))
        mask = options.get("reset_mask")
        mask = np.ones(self.num_envs, bool) if mask is None else np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(
                f"reset_mask: expected a bool array of shape ({self.num_envs},) with at least one True, got {mask!r}"
            )
        prompt, image = options.get("prompt"), options.get("image")
        prompts = None if prompt is None else self._for_each_row("prompt", prompt, isinstance(prompt, (list, tuple)))
        if prompts is not None and not all(each is None or isinstance(each, str) for each in prompts):
            raise ValueError(f"prompt: expected a string or a list of them, got {type(prompt).__name__}; pass texts")
        if image is None:
            return mask, prompts, None
        is_list = isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4)
        images = [self._episodes.picture(each) for each in self._for_each_row("image", image, is_list)]
        return mask, prompts, np.stack(images)

    def _for_each_row(self, name: str, value: Any, is_list: bool) -> list[Any]:
        values = list(value) if is_list else [value] * self.num_envs
        if len(values) != self.num_envs:
            raise ValueError(f"{name}: expected one for each of {self.num_envs} rows, got {len(values)}")
        return values


def _stack(infos: Sequence[dict[str, Any]], mask: np.ndarray) -> dict[str, Any]:
    """The rows' infos, key by key: numbers and arrays as one array, dicts as one dict, other things as objects."""
    stacked: dict[str, Any] = {}
    for key in infos[0]:
        values = [each[key] for each in infos]
        if all(isinstance(value, dict) for value in values) and all(
            value.keys() == values[0].keys() for value in values
        ):
            stacked[key] = _stack(values, mask)
        else:
            stacked[key] = _masked(_column(values), mask)
        stacked[f"_{key}"] = mask.copy()
    return stacked


def _column(values: Sequence[Any]) -> np.ndarray:
    if all(isinstance(value, bool | int | float | np.generic | np.ndarray) for value in values):
        arrays = [np.asarray(value) for value in values]
        if len({array.shape for array in arrays}) == 1 and all(array.dtype.kind in "biufc" for array in arrays):
            return np.stack(arrays)
    column = np.full(len(values), None, dtype=object)
    for row, value in enumerate(values):
        column[row] = value
    return column


def _masked(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values of the rows in the mask; elsewhere zeros, or None for objects."""
    masked = np.full(values.shape, None, dtype=object) if values.dtype == object else np.zeros_like(values)
    masked[mask] = values[mask]
    return masked


def _check_autoreset(autoreset_mode: str | AutoresetMode) -> None:
    modes = [mode.value for mode in AutoresetMode]
    if autoreset_mode not in modes and autoreset_mode not in list(AutoresetMode):
        raise ValueError(f"autoreset_mode: expected one of {modes}, got {autoreset_mode!r}; choose one")
