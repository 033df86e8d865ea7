"""Runs a decode on tensors without values and counts what would be alive: the check on the planner's formulas.

The card is played by the "meta" device under FakeTensorMode, the host by the CPU, so the two are told apart. A
dispatch mode sees every storage when it is made and is told when it dies. Workspace that a convolution library
takes for itself is no tensor and is not counted.
"""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.decode.plan import DecodePlan
from engine.decode.streaming import decode_blocks
from engine.models.video_vae import VideoVae, VideoVaeConfig
from engine.models.video_vae22 import vae_of

CARD = "meta"
HOST = "cpu"


@dataclass(frozen=True, slots=True)
class Simulated:
    """Highest live bytes on the card (weights included) and in host memory."""

    peak_bytes: int
    host_bytes: int


class LiveStorages(TorchDispatchMode):
    """Live and highest bytes by device type, of storages that were made while the mode is on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        self._known: dict[int, weakref.ref[torch.UntypedStorage]] = {}

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 (torch names no type for an operator)
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.follow(leaf)
        return result

    def follow(self, tensor: Tensor) -> None:
        """Count the tensor's storage from now until it dies."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size, device = storage.nbytes(), tensor.device.type
        self._add(device, size)

        def died(_: object) -> None:
            del self._known[key]
            self._add(device, -size)

        self._known[key] = weakref.ref(storage, died)

    def _add(self, device: str, size: int) -> None:
        self.live[device] = self.live.get(device, 0) + size
        self.peak[device] = max(self.peak.get(device, 0), self.live[device])


def simulate_decode(
    config: VideoVaeConfig, latent_shape: tuple[int, int, int], dtype: torch.dtype, plan: DecodePlan
) -> Simulated:
    """Decode latents of `latent_shape` (T, h, w) as `plan` says, without values."""
    storages = LiveStorages()
    with FakeTensorMode():
        vae = decoder_without_values(config, dtype)
        latents = torch.empty(1, config.z_dim, *latent_shape, device=HOST)
        with storages:
            for module in (vae.decoder, vae.conv2):
                for parameter in module.parameters():
                    storages.follow(parameter)
            for block in decode_blocks(vae, latents, plan):
                held = block.rgb  # a consumer holds what it was given while the next step runs
            del held
    return Simulated(storages.peak[CARD], storages.peak[HOST])


def decoder_without_values(config: VideoVaeConfig, dtype: torch.dtype) -> VideoVae:
    """The network on the pretended card; call it under FakeTensorMode."""
    with torch.device("meta"):
        vae = vae_of(config)
    values = {name: torch.empty(p.shape, dtype=dtype, device=CARD) for name, p in vae.named_parameters()}
    vae.load_state_dict(values, assign=True)
    return vae
