"""The transformer that a step needs, on the device: its model's only one, or one of two at a time. Engine thread."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from engine.attention.attend import Attend
from engine.denoise.block_pieces import BlockInPieces
from engine.denoise.plan import SamplingPlan, smaller
from engine.denoise.streaming import Denoiser
from engine.models.transformer import WanTransformer
from engine.weights.load_swapped import Swapped
from engine.weights.provenance import Expert
from engine.weights.read_ahead import ReadAhead

Load = Callable[[Expert | None, int], Swapped[WanTransformer]]
"""A transformer with so many resident blocks; None is the only one of its model."""


@dataclass(frozen=True, slots=True)
class Switch:
    """Of two transformers the first takes `step` steps, the second all others."""

    step: int

    def expert_at(self, step: int) -> Expert:
        """Whose turn it is."""
        return Expert.HIGH_NOISE if step < self.step else Expert.LOW_NOISE


class Experts:
    """Loads a transformer when its first step comes, and lets go of it when the other's does. `close` it."""

    def __init__(
        self,
        load: Load,
        attend: Attend,
        plan: SamplingPlan,
        switch: Switch | None,
        in_pieces: type[BlockInPieces] = BlockInPieces,
        files_of_second: Iterable[Path] = (),
    ) -> None:
        """`files_of_second` are read ahead while the first transformer takes its last step."""
        self._load = load
        self._attend = attend
        self._in_pieces = in_pieces
        self._switch = switch
        self._expert: Expert | None = None
        self._loaded: Swapped[WanTransformer] | None = None
        self._ahead = ReadAhead(files_of_second)
        self.plan = plan

    def at(self, step: int) -> Denoiser:
        """What predicts velocities at `step`. Raises what loading raises."""
        expert = None if self._switch is None else self._switch.expert_at(step)
        if self._loaded is None or expert is not self._expert:
            self._let_go()
            self._loaded, self._expert = self._load(expert, self.plan.resident_blocks), expert
        if self._switch is not None and self._switch.step == step + 1:
            self._ahead.start()
        network, swap = self._loaded.network, self._loaded.swap
        return Denoiser(network, swap.walk, self.plan.chunk_tokens, self._attend, self._in_pieces)

    def is_first_of(self, step: int) -> bool:
        """Whether the second transformer begins with `step`: what is known of the first tells nothing of it."""
        return self._switch is not None and step == self._switch.step

    def make_smaller(self) -> bool:
        """Go on in smaller pieces, or with fewer blocks on the device; False where nothing gets smaller any more."""
        plan = smaller(self.plan)
        while self._loaded is None and plan is not None and plan.resident_blocks == self.plan.resident_blocks:
            plan = smaller(plan)  # it was loading that found no room, to which pieces are nothing
        if plan is None:
            return False
        if plan.resident_blocks != self.plan.resident_blocks:
            self._let_go()
        self.plan = plan
        return True

    def close(self) -> None:
        """Let go of everything."""
        self._ahead.stop()
        self._let_go()

    def _let_go(self) -> None:
        if self._loaded is not None:
            self._loaded.swap.close()
        self._loaded = None
