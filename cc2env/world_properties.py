"""What an environment of any library says about its world: one class from which all three take it."""

from cc2env.session import Session


class WorldProperties:
    """Properties of environments that fly a session."""

    _session: Session

    @property
    def abilities(self) -> frozenset[str]:
        """What this world has a use for: see `model.world.protocol.abilities`."""
        return self._session.abilities

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All words that a prompt can say in this world, or None if it has no such list."""
        return self._session.vocabulary
