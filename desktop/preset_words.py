"""What the window says about the preset for this card; pure functions for the UI thread."""

from PySide6.QtCore import QCoreApplication

from desktop.backend_words import backend_name, unavailable_text
from desktop.optimise_words import residents_text, weights_name
from desktop.state.card import CardState
from desktop.words import byte_text
from engine.card_presets import CardPreset, PresetSettings

translate = QCoreApplication.translate  # under this name lupdate finds the strings


def preset_title(card: CardState) -> str:
    """Which preset was found."""
    preset = card.preset
    if preset is None:
        return translate("preset", "Looking for the graphics card…")
    if preset.from_gb is None:
        return translate("preset", "Preset for computers without a card")
    if preset.from_gb == 0:
        return translate("preset", "Preset for cards below {below} GB").format(below=preset.below_gb)
    if preset.below_gb is None:
        return translate("preset", "Preset for cards of {first} GB and more").format(first=preset.from_gb)
    return translate("preset", "Preset for cards of {first} to {below} GB").format(
        first=preset.from_gb, below=preset.below_gb
    )


def preset_why(card: CardState) -> str:
    """Why it is that one."""
    preset = card.preset
    if preset is None:
        return ""
    if preset.from_gb is None:
        return translate(
            "preset", "There is no NVIDIA card to use, so nothing is swapped, and the size is the model’s own."
        )
    why = translate("preset", "{card} has {size}.").format(card=card.name, size=byte_text(card.total_bytes))
    if preset.from_gb == 0:
        why += " " + translate("preset", "That is less than Wan models are made for: every block is swapped.")
    return why


def proposed_text(preset: CardPreset, proposed: PresetSettings, blocks: int | None) -> str:
    """What the preset comes to here."""
    parts = [
        translate("preset", "attention {name}").format(name=backend_name(proposed.attention)),
        translate("preset", "weights {form}").format(form=weights_name(proposed.weights)),
        translate("preset", "blocks on the card: {blocks}").format(
            blocks=residents_text(proposed.resident_blocks, blocks)
        ),
        translate("preset", "{width} × {height}, {frames} frames").format(
            width=proposed.width, height=proposed.height, frames=proposed.frames
        ),
    ]
    text = "; ".join(parts)
    return text[:1].upper() + text[1:] + "."


def passed_over_text(proposed: PresetSettings) -> str:
    """What the preset would rather have, each with the reason why it cannot be had, one a line."""
    return "\n".join(
        translate("preset", "Not {name}: {why}").format(name=backend_name(each.backend), why=unavailable_text(each))
        for each in proposed.passed_over
    )


def gave_way_text(residents: int) -> str:
    """The preset's blocks that did not fit."""
    return translate(
        "preset", "{residents} blocks on the card, as the preset has it, do not fit: Tessera chooses how many."
    ).format(residents=residents)


def preset_note(value: str) -> str:
    """What a setting would be by the preset."""
    return translate("preset", "Preset: {value}").format(value=value)
