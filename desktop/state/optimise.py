"""How the person wants sampling to be fitted into memory and made fast; lives on the UI thread."""

import json
from dataclasses import asdict, dataclass, field, replace

from PySide6.QtCore import QObject, Signal, Slot

from engine.card_presets import DistilledRecipe, distilled_recipes
from engine.generation import SamplingSettings, Solver, sampling_from

BUDGET_STEP_BYTES = 16 << 20
LARGEST_COUNT, LARGEST_BUDGET_BYTES = (1 << 31) - 1, 1 << 50  # that the fields can show


@dataclass(frozen=True, slots=True)
class OptimiseValues:
    """One set of values as the page shows them. recipe: the name of a distilled one, which decides solver and steps.

    residents_of_preset: the blocks that stay on the card were proposed and not chosen by hand.
    """

    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    rounds_input: bool = False
    solver: Solver = Solver.UNIPC
    recipe: str | None = None
    budget_bytes: int | None = None
    residents_of_preset: bool = False


class OptimiseState(QObject):
    """The values of the page and of the gauge's line. Every change goes through `change` and is announced once."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.values = OptimiseValues()

    @property
    def recipe(self) -> DistilledRecipe | None:
        """The chosen distilled recipe."""
        return next((each for each in distilled_recipes() if each.name == self.values.recipe), None)

    @property
    def solver(self) -> Solver:
        """The solver in force."""
        recipe = self.recipe
        return self.values.solver if recipe is None else recipe.solver

    def change(self, values: OptimiseValues) -> None:
        """Take new values; silent when nothing differs, so that views may echo what they show."""
        if values != self.values:
            self.values = values
            self.changed.emit()

    def change_sampling(self, sampling: SamplingSettings) -> None:
        """Take new settings from the person, whose residents are no longer the preset's once they differ."""
        is_preset = self.values.residents_of_preset and sampling.resident_blocks == self._residents
        self.change(replace(self.values, sampling=sampling, residents_of_preset=is_preset))

    def leave_model(self) -> None:
        """Another model has other blocks, and is not distilled as the one before was; the rest suits all."""
        first, sampling = OptimiseValues(), replace(self.values.sampling, resident_blocks=None)
        values = replace(self.values, sampling=sampling, residents_of_preset=False)
        self.change(replace(values, recipe=first.recipe, solver=first.solver))

    @Slot(object)
    def set_budget(self, budget_bytes: int | None) -> None:
        """The most live bytes that every stage may take; None leaves it to the engine."""
        self.change(replace(self.values, budget_bytes=budget_bytes))

    @property
    def _residents(self) -> int | None:
        return self.values.sampling.resident_blocks


def optimise_text(values: OptimiseValues) -> str:
    """`values` as one line of JSON."""
    return json.dumps(asdict(values))


def optimise_from(text: str) -> OptimiseValues:
    """What `optimise_text` wrote; the first values for anything else."""
    try:
        stated = json.loads(text)
        sampling, solver = sampling_from(stated.pop("sampling")), Solver(stated.pop("solver"))
        values = OptimiseValues(sampling=sampling, solver=solver, **stated)
        return values if _is_sound(values) else OptimiseValues()
    except (ValueError, TypeError, LookupError, AttributeError):
        return OptimiseValues()


def _is_sound(values: OptimiseValues) -> bool:
    """Whether everything is of the kind that it should be, which a file does not promise."""
    sampling, recipe = values.sampling, values.recipe
    switches = (
        sampling.compile_blocks, sampling.joint_guidance, values.rounds_input, values.residents_of_preset,
    )  # fmt: skip
    return (
        all(isinstance(each, bool) for each in switches)
        and _is_count(sampling.resident_blocks, LARGEST_COUNT)
        and _is_count(sampling.chunk_tokens, LARGEST_COUNT)
        and _is_count(values.budget_bytes, LARGEST_BUDGET_BYTES)
        and type(sampling.step_cache) in (int, float)
        and 0 <= sampling.step_cache <= 1
        and (recipe is None or isinstance(recipe, str))
    )


def _is_count(value: object, largest: int) -> bool:
    """Whether it is a whole number that can be meant, or None; a switch is a number to Python alone."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= largest)
