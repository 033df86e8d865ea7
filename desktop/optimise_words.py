"""What the window says about what a video takes, and how it is fitted into memory; pure functions, UI thread."""

from PySide6.QtCore import QCoreApplication

from desktop.failure_words import problem_text
from desktop.state.optimise import OptimiseState
from desktop.state.outlook import MEASURED_STAGES, EngineStanding, OutlookState
from desktop.words import byte_text, duration_text, stage_name, sufficient_byte_text
from engine.card_presets import DistilledRecipe
from engine.events import SamplingFigures, SamplingRecut
from engine.generation import Solver
from engine.model_choice import WeightForm

translate = QCoreApplication.translate  # under this name lupdate finds the strings


def solver_name(solver: Solver) -> str:
    """A solver, as an entry of the list."""
    return {
        Solver.UNIPC: translate("optimise", "UniPC"),
        Solver.EULER: translate("optimise", "Euler"),
        Solver.DPMPP_2M: translate("optimise", "DPM++ 2M"),
        Solver.LCM: translate("optimise", "LCM, for distilled models"),
    }[solver]


def recipe_name(recipe: DistilledRecipe) -> str:
    """A recipe of distilled models, as an entry of the list; one without words keeps its own name."""
    names = {
        "lightx2v_4": translate("optimise", "LightX2V, 4 steps"),
        "lightx2v_8": translate("optimise", "LightX2V, 8 steps"),
        "causvid": translate("optimise", "CausVid, 9 steps"),
    }
    return names.get(recipe.name, recipe.name)


def recipe_note(recipe: DistilledRecipe | None) -> str:
    """What a recipe means for the other settings."""
    if recipe is None:
        return ""
    return translate(
        "optimise", "{steps} steps without guidance, solver {solver}. Needs the model or the LoRA that it was made for."
    ).format(steps=len(recipe.times), solver=solver_name(recipe.solver))


def weights_name(form: WeightForm) -> str:
    """A form of the weights in a sentence."""
    return {
        WeightForm.STORED: translate("optimise", "as stored"),
        WeightForm.FP8_SCALED: translate("optimise", "8-bit floats"),
        WeightForm.FP4_SCALED: translate("optimise", "4-bit floats"),
    }[form]


def residents_text(residents: int | None, blocks: int | None) -> str:
    """How many blocks stay on the card."""
    if residents is None:
        return translate("optimise", "automatic")
    if blocks is None:
        return str(residents)
    if residents >= blocks:
        return translate("optimise", "all {blocks}").format(blocks=blocks)
    return translate("optimise", "{residents} of {blocks}").format(residents=residents, blocks=blocks)


def sampling_text(figures: SamplingFigures) -> str:
    """How sampling is cut and what that costs, a sentence each."""
    lines = [_blocks_text(figures)]
    if figures.chunk_tokens < figures.tokens:
        lines.append(
            translate("optimise", "{chunk} of {tokens} tokens go through a layer together.").format(
                chunk=f"{figures.chunk_tokens:,}", tokens=f"{figures.tokens:,}"
            )
        )
    if figures.seconds is not None:
        lines.append(translate("optimise", "About {time} a step.").format(time=step_time_text(figures.seconds)))
    return " ".join(lines)


def step_time_text(seconds: float) -> str:
    """The time of a step, which may be less than a second."""
    return f"{seconds:.1f} s" if seconds < 10 else duration_text(seconds)


def _blocks_text(figures: SamplingFigures) -> str:
    if figures.resident_blocks >= figures.blocks:
        return translate("optimise", "None of the {blocks} blocks of the model is swapped.").format(
            blocks=figures.blocks
        )
    return translate(
        "optimise", "{residents} of {blocks} blocks stay on the card; {size} wait in system memory."
    ).format(residents=figures.resident_blocks, blocks=figures.blocks, size=byte_text(figures.host_bytes))


def sampling_recut_text(recut: SamplingRecut) -> str:
    """What became of the plan when memory ran out while sampling."""
    return translate("optimise", "memory ran out: goes on with {blocks} blocks on the card").format(
        blocks=recut.resident_blocks
    )


def fit_text(outlook: OutlookState) -> str:
    """Why the next video is not possible or does not fit, and what would; empty where it does, or nobody knows yet."""
    if outlook.is_put_off:
        return ""
    if outlook.refusal is not None and outlook.is_invalid:
        return problem_text(outlook.refusal)
    if not outlook.is_over_budget:
        return ""
    if outlook.smallest_bytes is None:
        return translate("optimise", "This does not fit.")
    return translate("optimise", "This does not fit. The smallest budget that would is {smallest}.").format(
        smallest=sufficient_byte_text(outlook.smallest_bytes)
    )


def stage_peaks_text(outlook: OutlookState) -> str:
    """What every stage will take, one a line."""
    stages = () if outlook.outlook is None or outlook.is_put_off else outlook.outlook.planned.stages
    return "\n".join(
        f"{stage_name(each.stage)}: {byte_text(each.predicted_peak_bytes)}"
        for each in stages
        if each.stage in MEASURED_STAGES
    )


def waiting_outlook_text(outlook: OutlookState) -> str:
    """Why nothing is known about the next video."""
    if outlook.standing is EngineStanding.LOADING:
        return translate("optimise", "This comes as soon as the engine is loaded.")
    if outlook.standing is EngineStanding.BROKEN:
        return translate("optimise", "Nothing is known without the engine.")
    if outlook.is_put_off:
        return translate("optimise", "The plan for these settings comes after the running job.")
    if outlook.wanted is None:
        return translate("optimise", "This comes when the settings of the video are possible.")
    return translate("optimise", "Planning…")


def summary_text(outlook: OutlookState, optimise: OptimiseState) -> str:
    """What the next video takes, in the few words that a button has room for."""
    highest = outlook.highest
    if outlook.is_put_off:
        return translate("optimise", "After the running job")
    if outlook.is_invalid:
        return translate("optimise", "Not possible")
    if outlook.is_over_budget:
        return translate("optimise", "Does not fit")
    if highest is None:
        return translate("optimise", "Settings…") if optimise.recipe is None else recipe_name(optimise.recipe)
    size, budget = byte_text(highest.predicted_peak_bytes), outlook.budget_bytes
    if budget is None:
        return translate("optimise", "Takes {size}").format(size=size)
    return translate("optimise", "Fits: {size} of {budget}").format(size=size, budget=byte_text(budget))
