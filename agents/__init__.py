"""Agents: they see the environment through `gymnasium.make` and know nothing of the model behind it."""

import cc2env  # noqa: F401  # limits the spinning of OpenMP threads, before an agent loads torch
