"""Loading a folder never holds a network twice: each stored tensor is let go before the next one is read."""

import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from model.checkpoint import fill


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_stored_tensor_is_alive_at_a_time_besides_the_module(dtype: torch.dtype) -> None:
    with torch.device("meta"):
        module = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    alive_at_once = []

    def tensors() -> Iterator[tuple[str, Tensor]]:
        read: list[weakref.ref[Tensor]] = []
        for name, shape in shapes.items():
            # counted here: a reader that gathers everything first would find all of them alive
            alive_at_once.append(sum(reference() is not None for reference in read))
            tensor = torch.zeros(shape, dtype=torch.float64)
            read.append(weakref.ref(tensor))
            yield name, tensor
            del tensor

    fill(module, tensors(), dtype)
    assert not any(parameter.is_meta for parameter in module.parameters())
    # float64 needs no conversion: the stored tensor itself becomes the parameter, and its wrapper may go
    assert max(alive_at_once) <= 1


def test_a_downloaded_nan_or_whole_number_is_refused() -> None:
    module = nn.Linear(2, 1, bias=False)
    with pytest.raises(ValueError, match="weight: expected finite numbers"):
        fill(module, [("weight", torch.tensor([[1.0, float("nan")]]))])
    with pytest.raises(ValueError, match="weight: expected floating-point numbers"):
        fill(module, [("weight", torch.ones(1, 2, dtype=torch.int8))])
