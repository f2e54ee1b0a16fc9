"""Agents: they see the environment through `gymnasium.make` and know nothing of the model behind it."""

from cc2env.own_packages import require_own

require_own("configs")
