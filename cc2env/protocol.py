"""For authors of a world: the protocol, its optional parts, and checks of arguments."""

from model.geometry.trajectory import frame_poses
from model.world.arguments import check_images, check_intrinsics, check_prompts, check_seeds, check_segment
from model.world.noise import episode_noise
from model.world.protocol import (
    ChangesPrompts,
    CountsEvaluations,
    HasVocabulary,
    JoinsSegments,
    KnowsFreeSpace,
    LimitsItsStart,
    NamesItsPrompt,
    RecognisesStates,
    RendersViews,
    SeesDepth,
    WorldModel,
    WorldSpec,
    WorldState,
    abilities,
)

__all__ = [
    "ChangesPrompts",
    "CountsEvaluations",
    "HasVocabulary",
    "JoinsSegments",
    "KnowsFreeSpace",
    "LimitsItsStart",
    "NamesItsPrompt",
    "RecognisesStates",
    "RendersViews",
    "SeesDepth",
    "WorldModel",
    "WorldSpec",
    "WorldState",
    "abilities",
    "check_images",
    "check_intrinsics",
    "check_prompts",
    "check_seeds",
    "check_segment",
    "episode_noise",
    "frame_poses",
]
