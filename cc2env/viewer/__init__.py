"""A page in the browser that shows an episode: film, path and views."""
