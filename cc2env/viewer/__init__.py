"""A page in the browser that shows episodes: `Viewer(env)`."""

from cc2env.viewer.episode_page import EpisodePage
from cc2env.viewer.wrapper import Viewer

__all__ = ["EpisodePage", "Viewer"]
