"""Flying on costs no memory: what a process holds after a hundred steps is what it held after ten."""

import json
import subprocess
import sys

import pytest

MEGABYTE = 2**20
# Allocators keep what they once had: single megabytes come and go. A leak of one a step would be ninety.
TOLERANCE = 30 * MEGABYTE

_FLY = """
import gc, json, sys
import gymnasium, numpy, psutil, torch
torch.set_num_threads(1)
world, leak, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
env = gymnasium.make("cc2env:CameraCtrlWorld-v0", world=world, max_episode_steps=64, **settings)
env.reset(seed=0)
action, kept, held = numpy.full((4, 6), 0.05, numpy.float32), [], []
# not the peak: Linux hands a process its parent's
for step in range(1, 101):
    if env.step(action)[3]:
        env.reset()
    kept.append(numpy.ones(leak, numpy.uint8))
    if step in (10, 100):
        gc.collect()
        held.append(psutil.Process().memory_info().rss)
print(held[1] - held[0])
"""


def growth(world, leak=0, **settings):
    """Bytes by which a new process's resident memory grows between its steps 10 and 100."""
    command = [sys.executable, "-c", _FLY, world, str(leak), json.dumps(settings)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_a_hundred_steps_of_the_shipped_world_hold_no_more_than_ten():
    # fewer solver steps: shorter, and the memory of a step is the same
    assert growth("tiny", sampler_steps=1) < TOLERANCE


@pytest.mark.slow
def test_a_hundred_steps_of_the_renderer_hold_no_more_than_ten_and_a_leak_would_show():
    assert growth("synthetic") < TOLERANCE
    assert growth("synthetic", leak=MEGABYTE) > TOLERANCE
