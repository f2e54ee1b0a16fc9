"""What an episode without prompt shows in a world of an open model; one is drawn by the seed."""

DEFAULT_PROMPTS = (
    "A quiet street of old brick houses after the rain, soft morning light.",
    "A sunny clearing in a beech forest, ferns and fallen trunks.",
    "A bright living room with plants, wooden floor and tall windows.",
    "A rocky coast with green grass and low clouds, waves far below.",
)
