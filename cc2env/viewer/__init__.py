"""A page in the browser that shows episodes: `Viewer(env)`.

Source: ours rather than viser's. viser 1.1 reports no release of a key, moves its own view by w a s d, checks neither
a token nor the origin of a connection, opens a public tunnel when a page asks for one, and needs WebGL.
"""

from cc2env.viewer.episode_page import EpisodePage
from cc2env.viewer.wrapper import Viewer

__all__ = ["EpisodePage", "Viewer"]
