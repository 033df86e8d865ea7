"""How fields for numbers look: typed, or wheeled while they have the focus, without buttons; UI thread."""

from typing import TypeVar

from PySide6.QtWidgets import QAbstractSpinBox

Field = TypeVar("Field", bound=QAbstractSpinBox)
INSET = 8


def number_field(field: Field, name: str) -> Field:
    """`field` in the look of the others, with `name` for screen readers."""
    # The style sheet's padding does not reach the text inside a spin box.
    field.lineEdit().setTextMargins(INSET, 0, INSET, 0)
    field.setKeyboardTracking(False)  # "3" on the way to "33" is not a value
    field.setAccessibleName(name)
    return field
