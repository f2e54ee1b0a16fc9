"""Agents: they see the environment through `gymnasium.make` and know nothing of the model behind it."""
