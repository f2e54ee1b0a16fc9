"""Fingerprints name contents: what they were before, and others for what differs."""

import hashlib
from pathlib import Path

import torch

from model.fingerprint import fingerprint, fingerprint_number


def test_it_is_the_sha_256_of_all_contents_in_order(tmp_path: Path) -> None:
    path, numbers = tmp_path / "file", torch.arange(6.0).reshape(2, 3)
    path.write_bytes(bytes(range(256)) * 5000)  # more than one block
    expected = hashlib.sha256(b"\x00a" + "é".encode() + numbers.numpy().tobytes() + path.read_bytes()).hexdigest()
    assert fingerprint(b"\x00a", "é", numbers, path) == expected
    assert fingerprint(numbers.T) != fingerprint(numbers)
    halves = numbers.bfloat16()
    assert fingerprint(halves) == fingerprint(halves.view(torch.int16)) != fingerprint(halves + 1)
    assert fingerprint(torch.tensor(3)) == hashlib.sha256((3).to_bytes(8, "little")).hexdigest()


def test_a_number_depends_on_where_contents_end_and_fits_an_int64() -> None:
    assert fingerprint_number(b"ab", b"c") != fingerprint_number(b"a", b"bc")
    numbers = [fingerprint_number(bytes([each])) for each in range(64)]
    assert torch.tensor(numbers).tolist() == numbers and min(numbers) >= 0 and max(numbers) > 2**62
    assert fingerprint_number() == int.from_bytes(hashlib.sha256().digest()[:8], "big") >> 1
