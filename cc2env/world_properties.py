"""What the environments of all three interfaces say about their world, in one class."""

from cc2env.session import Session


class WorldProperties:
    """Properties of environments that fly a session."""

    _session: Session

    @property
    def abilities(self) -> frozenset[str]:
        """What this world can use: see `model.world.protocol.abilities`."""
        return self._session.abilities

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """All words that a prompt can use in this world, or None if it has no such list."""
        return self._session.vocabulary
