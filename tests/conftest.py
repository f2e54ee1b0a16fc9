"""Shape and type annotations are checked at run time in every test: jaxtyping with beartype on our own packages."""

import os
import signal
import sys

os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook

# Benchmarks time the code as users run it.
# PEP 484's numeric tower, as mypy reads it: an int is welcome wherever a float is.
if "--benchmark-only" not in sys.argv:
    install_import_hook(["model", "cc2env"], "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import pytest
import torch

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # tests that a shell started with & inherit this
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def seeded_and_single_threaded() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # training sets it for the whole process; hypothesis wants IEEE floats
