"""The first scene seed of each purpose; users' episodes start at 0."""

HELD_OUT_SEED = 500_000  # every evaluation
PREVIEW_SEED = 600_000  # the previews during a training
CALIBRATION_SEED = 700_000  # scenes from which `evaluation.prompts` learns how colours look
TRAINING_SEED = 1_000_000  # clip sets
