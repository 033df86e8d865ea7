"""A paragraph that wraps even where the text gives no place to break, as paths do not; UI thread."""

import re

from PySide6.QtWidgets import QLabel

BREAK = "\u200b"  # zero-width space: nothing to see, but a line may end here
LONGEST_RUN = 24
_BREAKABLE = re.compile(rf"([/\\]|[^\s/\\]{{{LONGEST_RUN}}})(?=\S)")


class WrappedLabel(QLabel):
    """As narrow as its neighbours want it, and as high as its text then needs."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)

    def show_text(self, text: str) -> None:
        """Show `text`."""
        self.setText(breakable(text))


def breakable(text: str) -> str:
    """`text` that may be broken after slashes, and within words that are too long for a line."""
    return _BREAKABLE.sub(rf"\1{BREAK}", text)
