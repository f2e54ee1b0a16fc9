"""Gymnasium wrappers for an environment in which every step is a clip.

Gymnasium's own wrappers are not repeated here: those for pictures work on top of `LastFrame`.
Vector environments have their own wrappers in `cc2env.wrappers.vector`.
"""

from cc2env.wrappers import vector as vector
from cc2env.wrappers.absolute import AbsolutePoses
from cc2env.wrappers.clips import ChannelFirst, FrameSkip, LastFrame, ResizeClip
from cc2env.wrappers.prompted import PromptedActions
from cc2env.wrappers.record_episode import RecordEpisode
from cc2env.wrappers.twists import KEY_MAPS, DiscreteActions, SingleTwist

__all__ = [
    "KEY_MAPS",
    "AbsolutePoses",
    "ChannelFirst",
    "DiscreteActions",
    "FrameSkip",
    "LastFrame",
    "PromptedActions",
    "RecordEpisode",
    "ResizeClip",
    "SingleTwist",
]
