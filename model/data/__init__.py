"""Training clips and where they come from: rendered scenes, films, and data sets of pictures with cameras."""
