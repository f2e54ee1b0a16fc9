"""Gymnasium wrappers for an environment whose every step is a clip.

What Gymnasium itself has is not repeated here: on top of `LastFrame` its wrappers for pictures work as they are.
Vector environments have their own in `cc2env.wrappers.vector`.
"""

from cc2env.wrappers import vector as vector
from cc2env.wrappers.absolute import AbsolutePoses
from cc2env.wrappers.channel_first import ChannelFirst
from cc2env.wrappers.discrete import KEY_MAPS, DiscreteActions
from cc2env.wrappers.frame_skip import FrameSkip
from cc2env.wrappers.last_frame import LastFrame
from cc2env.wrappers.record_episode import RecordEpisode
from cc2env.wrappers.resize import ResizeClip
from cc2env.wrappers.single_twist import SingleTwist

__all__ = [
    "KEY_MAPS",
    "AbsolutePoses",
    "ChannelFirst",
    "DiscreteActions",
    "FrameSkip",
    "LastFrame",
    "RecordEpisode",
    "ResizeClip",
    "SingleTwist",
]
