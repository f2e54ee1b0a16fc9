"""The first seed of the scenes of every purpose; those of people's episodes start at 0."""

HELD_OUT_SEED = 500_000  # every evaluation
PREVIEW_SEED = 600_000  # the previews during a training
CALIBRATION_SEED = 700_000  # what `evaluation.prompts` learns the look of colours from
TRAINING_SEED = 1_000_000  # clip sets
