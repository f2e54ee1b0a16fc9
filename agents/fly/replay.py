"""A saved flight, flown again without a page: it must come out bit for bit."""

import contextlib

from tqdm import tqdm

from agents.fly.clip_facts import frames_digest
from agents.fly.record import Flight
from agents.fly.session import ROOT, open_session


def replay_flight(flight: Flight) -> None:
    """Flies a flight again and says whether all frames are the same.

    Raises:
        ValueError: The frames differ, or its settings cannot be used any more.
        FileNotFoundError: There is no such world.
    """
    with contextlib.closing(open_session(flight.settings)) as session:
        at = ROOT
        for key, prompt in tqdm(flight.moves, desc="flying", unit="clip"):
            at = session.fly(at, key, prompt).index
        frames = [clip.frames for clip in session.path(at)]
    if frames_digest(frames) != flight.sha256:
        raise ValueError(
            "replay: expected the same frames, got others; the world, the number of threads or the libraries' versions "
            "are not those that it was flown with"
        )
    print(f"the same bytes: {sum(map(len, frames))} frames, sha256 {flight.sha256}")
