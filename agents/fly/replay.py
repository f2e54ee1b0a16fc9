"""A saved flight, flown again without a page: it must come out bit for bit."""

import contextlib

from tqdm import tqdm

from agents.fly.clip_facts import frames_digest
from agents.fly.record import Flight
from agents.fly.session import ROOT, open_session


def replay_flight(flight: Flight) -> None:
    """Flies a flight and its branches again and says whether all frames are the same.

    Raises:
        ValueError: The frames differ, or its settings cannot be used any more.
        FileNotFoundError: There is no such world.
    """
    with contextlib.closing(open_session(flight.settings)) as session:
        flown = [session.clips[ROOT]]
        for parent, key, prompt in tqdm(flight.tree, desc="flying", unit="clip"):
            flown.append(session.fly(flown[parent].index, key, prompt))
        frames = [clip.frames for clip in flown]
    end = len(flight.moves) + 1
    if (frames_digest(frames[:end]), frames_digest(frames[end:])) != (flight.sha256, flight.branches_sha256):
        raise ValueError(
            "replay: expected the same frames, got others; the world, the device, the number of threads or the "
            "libraries' versions are not those that it was flown with"
        )
    print(f"the same bytes: {sum(map(len, frames))} frames, sha256 {flight.sha256}")
