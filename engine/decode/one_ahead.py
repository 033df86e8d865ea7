"""How far the host may run ahead of a card. Lives on the engine's thread."""

import torch

from engine.cancel import CancelFlag


class OneAhead:
    """Called before every layer: waits until the card has begun with the last one, then raises `Cancelled` if asked to.

    The card always has the next layer at hand, and a cancel never waits for more than two.
    """

    def __init__(self, device: torch.device, cancel: CancelFlag) -> None:
        self._device = device
        self._cancel = cancel
        self._given: torch.cuda.Event | None = None

    def __call__(self) -> None:
        if self._device.type == "cuda":
            before, self._given = self._given, torch.cuda.current_stream(self._device).record_event()
            if before is not None:
                before.synchronize()
        self._cancel.raise_if_set()
