"""Context parallelism: a group of processes shares the tokens of one window.

Every process has a part of each frame's tokens. All layers but self-attention work token by token; there, an all-to-all
gives each process all tokens of a part of the heads, and another one gives the results back. So attention is exact, by
the kernel that one process would use.

Source: DeepSpeed-Ulysses (Jacobs et al. 2023, arXiv 2309.14509).
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TokenSplit:
    """Which part of the tokens this process has.

    Attributes:
        group: Name of the process group.
        rank: Of this process in the group.
        size: Processes in the group.
    """

    group: str
    rank: int
    size: int

    def own(self, x: Tensor, dim: int) -> Tensor:
        """This process's part of a dimension. Raises ValueError if it does not divide into equal parts."""
        if x.shape[dim] % self.size:
            raise ValueError(
                f"context_parallel: expected a divisor of the {x.shape[dim]} tokens of a frame, got {self.size}"
            )
        length = x.shape[dim] // self.size
        return x.narrow(dim, self.rank * length, length).contiguous()

    def whole(self, x: Float[Tensor, "b f s d"]) -> Float[Tensor, "b f all_s d"]:
        """All processes' tokens, on each of them. The gradient is the sum of all processes' gradients."""
        return torch.cat(self._exchange(x.expand(self.size, *x.shape)).unbind(), dim=2)

    def to_heads(self, x: Float[Tensor, "b n k c"]) -> Float[Tensor, "b all_n own_k c"]:
        """From a part of the tokens to a part of the heads; tokens are ordered by process."""
        return self._exchange(x.unflatten(2, (self.size, -1)).movedim(2, 0)).movedim(0, 1).flatten(1, 2)

    def to_tokens(self, x: Float[Tensor, "b all_n own_k c"]) -> Float[Tensor, "b n k c"]:
        """The inverse of `to_heads`."""
        return self._exchange(x.unflatten(1, (self.size, -1)).movedim(1, 0)).movedim(0, 2).flatten(2, 3)

    def _exchange(self, parts: Float[Tensor, "size *part"]) -> Float[Tensor, "size *part"]:
        """Sends each process its part, and returns what each process sent."""
        from torch.distributed._functional_collectives import all_to_all_single_autograd

        return all_to_all_single_autograd(parts.contiguous(), None, None, cast(Any, self.group))


def check_split(size: int, num_heads: int, camera_injection: str, tokens_a_frame: int) -> None:
    """Raises ValueError unless `size` processes can share the windows of such a network."""
    if size < 1 or num_heads % size or tokens_a_frame % size:
        raise ValueError(
            f"training.fit.context_parallel: expected a divisor of the network's {num_heads} heads and of the "
            f"{tokens_a_frame} tokens of a frame, got {size}"
        )
    if size > 1 and camera_injection == "ac3d":
        raise ValueError(
            f"training.fit.context_parallel: expected 1 for dit.camera_injection=ac3d, whose branch attends to all "
            f"tokens by itself, got {size}"
        )
