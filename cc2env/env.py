"""`CameraCtrlWorld-v0`: one episode as a Gymnasium environment; an action flies the camera along a clip."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, SupportsIndex

import gymnasium as gym
import numpy as np

from cc2env import spaces
from cc2env.actions import check_action
from cc2env.arguments import read_arguments, read_options
from cc2env.episodes import Episodes
from cc2env.render_modes import RENDER_MODES, Renderer, check_render_mode
from cc2env.rewards import RewardFunction
from cc2env.shared_world import SharedWorld, SharedWorldSpec
from cc2env.snapshot import EnvSnapshot
from cc2env.tasks import Task
from cc2env.world_properties import WorldProperties
from model.world.protocol import WorldModel

if TYPE_CHECKING:
    from cc2env.vector_env import CameraCtrlWorldVectorEnv


class CameraCtrlWorldEnv(SharedWorldSpec, WorldProperties, gym.Env[np.ndarray, np.ndarray]):
    r"""A camera flies through a generated, moving scene.

    ## Description

    An action is a segment of camera trajectory. A video diffusion model generates the clip that a camera sees
    along it, and the next clip continues the last one in one fixed world frame: the camera of the first frame
    (x right, y down, z forward), in metres. The scene moves by itself, also while the camera stands still.

    The method is CameraCtrl II (He et al., 2025). `world="synthetic"` is a renderer behind the same interface:
    exact, fast, without a network.

    ## Action Space

    `Box(poses_per_clip, 6)`, float32: for each latent pose (a third of a second, 4 frames) a twist (v, w) in the
    camera's own axes. It moves the camera by the exponential of SE(3): `c2w = c2w @ exp(twist)`. A number out of
    bounds is an error and is never clipped.

    | Component | Meaning                                   | Min  | Max | Unit |
    |-----------|-------------------------------------------|------|-----|------|
    | 0         | translation along x, right                | -0.6 | 0.6 | m    |
    | 1         | translation along y, down                 | -0.6 | 0.6 | m    |
    | 2         | translation along z, forward              | -0.6 | 0.6 | m    |
    | 3         | rotation vector, x: the view tilts up     | -0.2 | 0.2 | rad  |
    | 4         | rotation vector, y: the view pans right   | -0.2 | 0.2 | rad  |
    | 5         | rotation vector, z: rolls clockwise       | -0.2 | 0.2 | rad  |

    ## Observation Space

    `Box(0, 255, (frames_per_clip, height, width, 3), uint8)`: the RGB frames of the clip, oldest first. The last
    frame is the view from the last pose of `achieved_c2w`. `reset` has one frame, repeated to the length of a clip.

    `info` has the same keys after `reset` and `step`:

    | Key                    | Value                                                                           |
    |------------------------|---------------------------------------------------------------------------------|
    | `c2w`                  | float32 [poses_per_clip, 4, 4], the commanded camera-to-world poses, metres      |
    | `achieved_c2w`         | float32 [poses_per_clip, 4, 4], the poses that the camera reached: commanded    |
    |                        | ones unless it was stopped; the next action starts from the last                |
    | `blocked`              | bool, whether the commanded path led into an obstacle: exact in the synthetic   |
    |                        | world, an estimate in a learned one with `collision="stop"`, else False         |
    | `intrinsics`           | float32 [4], fx fy cx cy divided by the image's width and height                 |
    | `clip_index`           | int, clips since `reset`                                                        |
    | `seconds`              | float, time of the last frame in the scene's own seconds (not the computer's)   |
    | `function_evaluations` | int, samples passed through the network for this clip; after `reset`, for its   |
    |                        | first frame: 0 where it was given or rendered                                   |
    | `prompt`               | str, the prompt in force: the given one, the world's own choice, or ""          |

    ## Rewards

    Always 0 without a task. `reward=function` gives your own: a plain function of a `cc2env.rewards.Transition`
    (poses, frames, whether the way was blocked) that returns a finite number. Registered tasks, each with a table of
    its own in `cc2env.tasks`; their arguments are arguments of `gym.make`, too:

    | Id                               | In one line                                                          |
    |----------------------------------|----------------------------------------------------------------------|
    | `CameraCtrlWorld-Explore-v0`     | see as much new space as possible for each metre flown               |
    | `CameraCtrlWorld-GoalView-v0`    | reach the pose from which a given picture was taken                  |
    | `CameraCtrlWorld-FollowPath-v0`  | fly a given path, pose by pose, in time                              |
    | `CameraCtrlWorld-LoopClosure-v0` | fly away and return to the same view                                 |
    | `CameraCtrlWorld-HoldStill-v0`   | keep the camera still while the scene moves                          |

    ## Starting State

    The camera is at the identity pose. The scene is drawn from the episode's noise seed, which comes from
    `env.np_random`. `reset(seed=..., options={"prompt": ..., "image": ...})`: `prompt` is a text; `image` is the first
    frame, a path, a uint8 array (h, w, 3) or a PIL image, cropped to the shape of a frame and resized. Any other key is
    an error, and so is an option that the world has no use for (the synthetic world takes neither).

    The same seed, options and actions give identical bytes, in another process too.

    ## Episode End

    Never terminated without a task. `gym.make` truncates after 64 clips; `max_episode_steps` changes that.

    ## Arguments

    | Argument          | Default    | Meaning                                                                      |
    |-------------------|------------|------------------------------------------------------------------------------|
    | `world`           | `"tiny"`   | `"tiny"` or `"small"` (shipped weights; 48x80, 96x160), `"synthetic"`        |
    |                   |            | (renderer), a world's folder, the name of one that is registered, or an      |
    |                   |            | object with the protocol's methods                                           |
    | `sampler`         | world's    | `"quality"`, `"default"` or `"fast"`, where the world has them               |
    | `sampler_steps`   | world's    | steps of the ODE solver for each clip                                        |
    | `guidance_text`   | world's    | guidance weight of the prompt for each clip (the paper, Eq. 3); 1 is none    |
    | `guidance_camera` | world's    | guidance weight of the camera for each clip (the paper, Eq. 3); 1 is none    |
    | `memory_latents`  | world's    | latents of the context that are chosen by view overlap, not as the latest    |
    | `style`           | `"soft"`   | of `"synthetic"`: `"soft"`, `"textured"` or `"landscape"`                    |
    | `metres_per_unit` | world's    | of an open model that was trained without metres: the length of its unit     |
    | `offload`         | `False`    | moves blocks of a large open model from CPU memory to the device and back    |
    | `compile_backend` | `None`     | of a learned world: `torch.compile` its networks, by `"inductor"` for one;   |
    |                   |            | frames differ by rounding, and the first clips of each shape take a minute   |
    | `cuda_graphs`     | `False`    | of a learned world on a CUDA device: its network calls are recorded and      |
    |                   |            | replayed, for a world so small that the GPU waits for Python                 |
    | `poses_per_clip`  | world's, 4 | clip length: latent poses for each step, a multiple of the world's own       |
    | `horizontal_fov_deg` | world's | horizontal field of view in degrees                                       |
    | `device`          | `"cpu"`    | where the network runs                                                       |
    | `collision`       | `"none"`   | `"stop"`: the camera stops 0.35 m before an obstacle but still turns;        |
    |                   |            | exact in `"synthetic"`, by estimated depth in `"tiny"`                       |
    | `task`            | `None`     | a task's name, class or object; the registered ids choose it                 |
    | `reward`          | task's     | a function of a `Transition` that replaces the task's reward                 |
    | `render_mode`     | `None`     | `"rgb_array"`: the last frame; `"rgb_array_list"`: all frames of a clip      |

    An object as `world` is never copied: all copies of the environment and of its spec share it.

    `env.unwrapped.snapshot()` and `.restore(snapshot)` save and restore an episode with its random generator.
    (Wrappers are not restored: `TimeLimit` goes on counting.) A snapshot can be saved to disk and restored in another
    process, or by the vector environment. `env.unwrapped.fork(k)` returns a vector environment: k futures of this
    moment, flown in one batch.

    ## Version History

    * v0: first version.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 12}  # noqa: RUF012

    def __init__(
        self,
        world: str | Path | WorldModel | SharedWorld = "tiny",
        *,
        render_mode: str | None = None,
        **arguments: Any,
    ) -> None:
        if render_mode == "human":
            raise ValueError(
                'render_mode: expected "rgb_array" for a window, got "human"; use gym.make(..., render_mode="human"), '
                "which puts Gymnasium's window round it and needs pygame: pip install 'cameractrlworld[play]'"
            )
        check_render_mode(render_mode)
        self.render_mode = render_mode
        options, task_config = read_arguments(type(self).__init__, arguments)
        self._episodes = Episodes(world, options, task_config)
        self._session, self._renderer = self._episodes.session, Renderer(self._episodes, "gym.make")
        spec = self._session.world.spec
        self.metadata = {**type(self).metadata, "render_fps": round(spec.fps)}  # Gymnasium wants an integer
        self.action_space = spaces.action_space(self._session.poses_per_clip)
        self.observation_space = spaces.observation_space(self._session.frames_per_clip, spec.height, spec.width)

    @property
    def _np_random(self) -> np.random.Generator:
        return self._episodes.generators[0]

    @_np_random.setter
    def _np_random(self, generator: np.random.Generator) -> None:
        self._episodes.generators[0] = generator

    @property
    def _np_random_seed(self) -> int:
        return self._episodes.seeds[0]

    @_np_random_seed.setter
    def _np_random_seed(self, seed: int) -> None:
        self._episodes.seeds[0] = seed

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Opens a new episode; see the class for `options`.

        Raises:
            ValueError: An option is unknown, cannot be read, or has no use in this world.
        """
        prompt, image = self._read_options(options)  # raises before anything changes
        super().reset(seed=seed)
        self._episodes.open([0], None if prompt is None else [prompt], None if image is None else image[None])
        return self._episodes.observations()[0], self._episodes.info(0)

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Flies one clip along the action.

        Raises:
            ResetNeeded: `reset` has not been called.
            ValueError: The action has a wrong shape or type, or a number that is not finite or out of bounds; the
                episode stays where it was.
        """
        self._episodes.require_reset("step")
        frames = self._session.step(check_action(action, (self._session.poses_per_clip, 6))[None])[0]
        reward, terminated = float(self._episodes.rewards()[0]), bool(self._episodes.terminated()[0])
        return frames, reward, terminated, False, self._episodes.info(0)

    @property
    def fps(self) -> float:
        """Frames of a clip for each second of the scene; `metadata["render_fps"]` is the nearest integer."""
        return self._session.world.spec.fps

    @property
    def task(self) -> Task:
        """The task of all episodes."""
        return self._session.task_config.task

    @property
    def reward(self) -> RewardFunction | None:
        """The function that replaces the task's reward, if one was given."""
        return self._session.task_config.reward

    @property
    def c2w(self) -> np.ndarray:
        """The camera's current pose, float32 [4, 4], metres: the next action starts from it. A copy.

        Raises:
            ResetNeeded: `reset` has not been called.
        """
        self._episodes.require_reset("c2w")
        pose: np.ndarray = self._session.current.episode_data["achieved"][0, -1].numpy().copy()
        return pose

    @property
    def goal_image(self) -> np.ndarray:
        """The picture to find, uint8 [h, w, 3].

        Raises:
            AttributeError: The task has no such picture.
            ResetNeeded: `reset` has not been called.
        """
        self._episodes.require_reset("goal_image")
        info = self._session.task_info(0)
        if "goal_image" not in info:
            raise AttributeError(f"goal_image: expected a task with a picture to find, got {type(self.task).__name__}")
        image: np.ndarray = info["goal_image"]
        return image

    def depth(self) -> np.ndarray:
        """Returns the z-depth of the last clip at its poses, float32 [poses, h, w], metres.

        It is infinite where nothing is near enough to tell. In the synthetic world it is exact and as large as the
        frames; in a learned world it is an estimate, and smaller. After `reset` the first frame's depth is repeated.

        Raises:
            ResetNeeded: `reset` has not been called.
            ValueError: This world gives no depth.
        """
        self._episodes.require_reset("depth")
        return self._session.depth()[0]

    def set_prompt(self, prompt: object) -> None:
        """Changes the prompt of this episode from its next clip on; `info["prompt"]` is the prompt of the clip.

        Snapshots and forks keep the prompt; the next `reset` does not.

        Args:
            prompt: A text.

        Raises:
            ResetNeeded: `reset` has not been called.
            ValueError: It is no text, or this world cannot change prompts in flight; the episode stays as it was.
        """
        self._episodes.require_reset("set_prompt")
        if not isinstance(prompt, str):
            raise ValueError(f"prompt: expected a string, got {type(prompt).__name__}; pass one text")
        self._episodes.set_prompt(prompt)

    def render(self) -> Any:
        """Returns the last frame ("rgb_array") or the list of the frames that the last call made ("rgb_array_list")."""
        rows = self._renderer.render(self.render_mode)
        return rows[0] if rows else None

    def snapshot(self) -> EnvSnapshot:
        """Returns a snapshot of the episode, for `restore`; it shares no memory with the environment.

        Raises:
            ResetNeeded: `reset` has not been called.
        """
        self._episodes.require_reset("snapshot")
        return self._episodes.snapshot()

    def restore(self, snapshot: EnvSnapshot) -> None:
        """Restores a snapshot, of this or another environment of the same world; the snapshot stays as it is.

        Raises:
            ValueError: It is no snapshot, or of an environment with another world, task or clip length; the episode
                goes on.
        """
        self._episodes.restore(snapshot)

    def fork(self, num_futures: SupportsIndex) -> "CameraCtrlWorldVectorEnv":
        """Returns a vector environment whose rows all start at this moment; this environment stays there.

        Its rows are never reset and never end: they are for looking ahead.

        Raises:
            ResetNeeded: `reset` has not been called.
            ValueError: num_futures is less than 1.
        """
        from cc2env.vector_env import CameraCtrlWorldVectorEnv

        snapshot = self.snapshot().fork(num_futures)
        arguments = self._episodes.fork_arguments()
        futures = CameraCtrlWorldVectorEnv(num_futures, autoreset_mode="Disabled", **arguments)
        futures.restore(snapshot)
        return futures

    def _read_options(self, options: dict[str, Any] | None) -> tuple[str | None, np.ndarray | None]:
        options = read_options(options, ("prompt", "image"))
        prompt, image = options.get("prompt"), options.get("image")
        if prompt is not None and not isinstance(prompt, str):
            raise ValueError(f"prompt: expected a string, got {type(prompt).__name__}; pass one text")
        return prompt, None if image is None else self._episodes.picture(image)
