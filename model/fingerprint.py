"""Fingerprints: hashes of contents, the same in every process and on every machine."""

import hashlib
from pathlib import Path

from torch import Tensor, uint8


def fingerprint(*contents: bytes | str | Tensor | Path) -> str:
    """Returns 64 hexadecimal digits (SHA-256) of the contents, one after the other without separators.

    Args:
        *contents: Bytes, texts in UTF-8, the numbers of tensors, and for paths the bytes of their files.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for content in contents:
        match content:
            case Path():
                with content.open("rb") as file:
                    hashlib.file_digest(file, lambda: digest)  # continues the same digest
            case Tensor():
                digest.update(content.detach().cpu().flatten().view(uint8).numpy().tobytes())  # NumPy has no bfloat16
            case str():
                digest.update(content.encode())
            case _:
                digest.update(content)
    return digest.hexdigest()


def fingerprint_number(*contents: bytes) -> int:
    """Returns 63 bits, for an int64 entry of states; the borders between the contents count, too."""
    return int(fingerprint(*(len(content).to_bytes(8) + content for content in contents))[:16], 16) >> 1
