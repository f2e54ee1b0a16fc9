"""A generated world and what it takes to make one: geometry, data, networks, training, evaluation."""

import os

# OpenMP reads this when torch loads. By default its threads spin for long at every barrier: a clip takes nine times as
# long when another process uses the cores. With less spinning it takes twice as long, and no longer than before on free
# cores.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
