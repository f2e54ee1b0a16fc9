"""A generated world and what it takes to make one: geometry, data, networks, training, evaluation."""

import os

# OpenMP reads this when torch loads. By default its threads spin for long at every barrier: when other processes use
# the cores, a clip takes eight times as long as with this. On free cores it makes no difference.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
