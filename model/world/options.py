"""The options of a world: where its networks run, and how each clip is sampled."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class WorldOptions:
    """Where a world runs and how it samples its clips. None means the value in its `world.yaml`.

    The first frame of an episode without image is always sampled with the steps and weights of `world.yaml`: with fewer
    steps it does not show what the prompt says.

    Attributes:
        device: Where the networks run and the states live.
        sampler: Which of the world's samplers: `default`, or a name in its `world.yaml` such as `quality` or `fast`,
            each with its own weights, steps and guidance.
        sampler_steps: Steps of the ODE solver for each clip.
        guidance_text: Guidance weight of the prompt for each clip (the paper, Eq. 3); 1: no guidance.
        guidance_camera: Guidance weight of the camera for each clip (the paper, Eq. 3); 1: no guidance.
        memory_latents: How many of the context's latents are chosen by view overlap; the others are the latest.
        style: Only for the synthetic world: `soft` (the default), `textured` or `landscape`.
        metres_per_unit: Only for an open model that learned its camera without metres: the length of its unit.
        offload: Only for a large open model: its blocks stay in the computer's memory and go to the device one by one.
        compile_backend: Backend of `torch.compile` for the DiT's blocks and the VAE (`inductor` needs a C++ compiler,
            on a GPU Triton). The first clips of each shape take a minute longer; all differ by rounding.
        cuda_graphs: Evaluations and decoding are recorded as CUDA graphs, shape by shape, and replayed: for worlds so
            small that a GPU waits for Python. Only on a CUDA device.
    """

    device: str = "cpu"
    sampler: str | None = None
    sampler_steps: int | None = None
    guidance_text: float | None = None
    guidance_camera: float | None = None
    memory_latents: int | None = None
    style: str | None = None
    metres_per_unit: float | None = None
    offload: bool | None = None
    compile_backend: str | None = None
    cuda_graphs: bool | None = None
