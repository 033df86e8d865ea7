"""Rows on their way from a card to host memory, while the card goes on computing."""

import pytest
import torch
from torch import Tensor

from engine.decode.host_copies import HostCopies

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")


def test_what_lands_is_what_was_there_when_the_copy_started() -> None:
    """Sources are freed and their memory written to at once, as the next layers do."""
    copies, landed = HostCopies(torch.device("cuda")), []

    def land(host: Tensor) -> None:
        assert host.is_pinned()
        landed.append(host.clone())

    sources = [torch.randint(0, 256, (2, rows, 640, 4), dtype=torch.uint8) for rows in (8, 8, 3, 8, 16)]
    for source in sources:
        copies.start(source.cuda(), land)
        torch.full((2, 16, 640, 4), 7, dtype=torch.uint8, device="cuda")
    copies.finish()
    assert len(landed) == len(sources)
    assert all(map(torch.equal, landed, sources))


def test_rows_that_are_in_host_memory_already_keep_their_place() -> None:
    """Where the card had no room for the bytes, they are made on the host."""
    copies, landed = HostCopies(torch.device("cuda")), []
    for number in range(6):
        source = torch.full((1, 4, 8, 4), number, dtype=torch.uint8)
        copies.start(source if number % 3 == 2 else source.cuda(), lambda host: landed.append(int(host[0, 0, 0, 0])))
    copies.finish()
    assert landed == list(range(6))
