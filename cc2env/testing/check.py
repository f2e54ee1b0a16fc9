"""The checker itself: the rules in order, and the flight in another process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import torch

from cc2env.testing.basics import BASICS
from cc2env.testing.flights import Flights, film_digest
from cc2env.testing.refusals import REFUSALS, one_line
from cc2env.testing.states import STATES
from model.world.load import load_world
from model.world.protocol import WorldModel

_FLY_ELSEWHERE = (
    "import sys, cloudpickle, torch; from cc2env.testing.flights import film_digest; "
    "torch.set_num_threads(int(sys.argv[1])); print(film_digest(cloudpickle.load(sys.stdin.buffer)))"
)


class WorldCheckError(ValueError):
    """A world breaks the protocol.

    Attributes:
        failures: One sentence for each broken rule, by the rule's name.
    """

    def __init__(self, failures: dict[str, str]) -> None:
        super().__init__("\n".join(f"{rule}: {sentence}" for rule, sentence in failures.items()))
        self.failures = failures


def check_world(world: str | Path | WorldModel, *, other_process: bool = True) -> None:
    """Flies some fifteen clips of a world, and says which rules of the protocol it breaks; the README lists them.

    Args:
        world: A world, or what `gymnasium.make` takes for one.
        other_process: Also pickle it and fly it in a new process, which takes the time of a fresh import.

    Raises:
        WorldCheckError: The world breaks a rule; each failure says what was expected, what came, and where to look.
        ValueError: The argument is no world.
    """
    flights = Flights(load_world(world))
    # where a basic rule is broken, the later rules mean nothing
    for rules in ({"spec": BASICS["spec"]}, BASICS, STATES | REFUSALS):
        failures = {name: sentence for name, rule in rules.items() if (sentence := next(rule(flights), None))}
        if failures:
            raise WorldCheckError(failures)
    if other_process:
        sentence = next(_other_process(world, flights), None)
        if sentence:
            raise WorldCheckError({"other_process": sentence})


def _other_process(world: str | Path | WorldModel, flights: Flights) -> Iterator[str]:
    where = "look at what it holds: modules by name and tensors pickle, open files and lambdas of others may not"
    try:
        pickled = cloudpickle.dumps(world)
    except Exception as error:  # a user's class may raise anything
        yield f"expected a world that pickles, for environments in other processes, got {one_line(error)}; {where}"
        return
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    command = [sys.executable, "-c", _FLY_ELSEWHERE, str(torch.get_num_threads())]
    done = subprocess.run(command, input=pickled, capture_output=True, env={**os.environ, "PYTHONPATH": paths})
    if done.returncode:
        yield f"expected a world that flies in another process, got {done.stderr.decode().splitlines()[-1]}; {where}"
    elif done.stdout.decode().split()[-1] != film_digest(flights.world):
        yield (
            "expected the same frames in another process, got others; look at hash(), the process's number, the time, "
            "and sets that are iterated over"
        )
