"""Which scenes are for what: seeds of people's episodes start at 0, seeds of training clips at 1,000,000."""

HELD_OUT_SEED = 500_000  # scenes of every evaluation
PREVIEW_SEED = 600_000  # scenes of the previews during a training
