"""Takes every decoder through the same case: counts it, compares its picture, and times all of them in turn."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from engine.clip import SHARE_OF_FREE_MEMORY
from engine.commands import DecodeSettings
from engine.decode.plan import DecodePlan, plan
from engine.device import free_host_bytes, is_out_of_memory, release_memory
from engine.errors import EngineError
from tests.bench.decode_case import Case
from tests.bench.decode_measure import (
    Counted,
    DeviceTime,
    Difference,
    OnCard,
    count,
    device_time,
    difference,
    free_bytes_on,
    on_card,
    picture_of,
    timed,
)
from tests.bench.decode_peers import DECODERS, Built


@dataclass(slots=True)
class Measured:
    """All that is known of one decoder; `seconds` has one figure a round, `plan` is None for others than ours."""

    plan: DecodePlan | None
    counted: Counted | None
    on_card: OnCard | None
    difference: Difference | None  # None until the first picture is there
    time_spent: DeviceTime | None = None
    seconds: list[float] = field(default_factory=list)


class Rounds:
    """The decoders that can run here, by name, and why others cannot."""

    def __init__(self, case: Case) -> None:
        self.measured: dict[str, Measured] = {}
        self.left_out: dict[str, str] = {}
        self._case = case
        self._built: dict[str, Built] = {}

    def prepare(self, names: Sequence[str]) -> None:
        """Build and count each, and warm it up on a card; what does not fit, or is not installed, is left out.

        A CPU has nothing that would be warmer for a second decode, which takes minutes.
        """
        for name in names:
            note(f"{name}: without values, then once on a card to warm up")
            try:
                self._prepare(name)
            except (EngineError, ImportError) as error:
                self._leave_out(name, repr(error))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._leave_out(name, "out of memory")

    def time_in_turn(self, repeats: int) -> None:
        """Every decoder once, `repeats` times over."""
        for number in range(1, repeats + 1):
            for name, built in self._built.items():
                seconds, picture = timed(built, self._case)
                note(f"round {number} of {repeats}, {name}: {seconds:.2f} s")
                measured = self.measured[name]
                measured.seconds.append(seconds)
                if measured.difference is None:
                    measured.difference = difference(picture, self._case.exact)
                del picture  # as large as what the next one makes

    def profile(self) -> None:
        """See where the time of each goes."""
        for name, built in self._built.items():
            note(f"{name}: profile")
            run = partial(picture_of, built, self._case)
            self.measured[name].time_spent = device_time(run, self._case.network.device)

    def _prepare(self, name: str) -> None:
        decoder, case = DECODERS[name], self._case
        made = None if decoder.settings is None else self._plan(decoder.settings)
        built = decoder.build(case.network, made)
        counted = None if decoder.has_kernels else count(decoder, case.network, case.shape, made)
        peaks = off = None
        if case.network.device.type == "cuda":
            picture, peaks = on_card(built, case)
            off = difference(picture, case.exact)
        self.measured[name] = Measured(made, counted, peaks, off)
        self._built[name] = built

    def _plan(self, settings: DecodeSettings) -> DecodePlan:
        """As a job here would plan it, but never with caches in files."""
        network = self._case.network
        card, host = (int(free * SHARE_OF_FREE_MEMORY) for free in (free_bytes_on(network.device), free_host_bytes()))
        limited = DecodeSettings(settings.mode, settings.strip_rows, budget_bytes=card)
        one_memory = network.device.type == "cpu"
        return plan(self._case.shape, network.config, network.dtype, limited, host, one_memory=one_memory)

    def _leave_out(self, name: str, why: str) -> None:
        note(f"{name}: left out, {why}")
        self.left_out[name] = why
        release_memory(self._case.network.device)


def note(text: str) -> None:
    """Progress, beside the results."""
    print(text, file=sys.stderr, flush=True)
