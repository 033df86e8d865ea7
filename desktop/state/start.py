"""What the next video begins from: nothing but words, pictures or a clip; lives on the UI thread."""

from collections.abc import Sequence
from enum import Enum, auto
from pathlib import Path

from PySide6.QtCore import QObject, Signal

from desktop.state.media_files import is_clip, is_picture
from engine.generation import Given
from engine.pictures.road import PictureRoad, PictureUse
from engine.presets import TEXT_ALONE

FIRST, LAST, EXTEND, RESTYLE = "first", "last", "extend", "restyle"  # fields of `Given`


class StartKind(Enum):
    """The ways to begin a video that a person can tell apart."""

    TEXT = auto()
    FIRST = auto()
    FIRST_AND_LAST = auto()
    EXTEND = auto()
    RESTYLE = auto()


class StartRefusal(Enum):
    """Why a model cannot begin so."""

    TEXT_ALONE = auto()
    NEEDS_FIRST = auto()
    NEEDS_BOTH = auto()
    TAKES_NO_LAST = auto()


SLOTS: dict[StartKind, tuple[str, ...]] = {
    StartKind.TEXT: (),
    StartKind.FIRST: (FIRST,),
    StartKind.FIRST_AND_LAST: (FIRST, LAST),
    StartKind.EXTEND: (EXTEND,),
    StartKind.RESTYLE: (RESTYLE,),
}


def start_refusal(kind: StartKind, use: PictureUse) -> StartRefusal | None:
    """Why a model that uses pictures so cannot begin in that way; None where it can. Every model can restyle."""
    is_blind, needs_first = use.road is PictureRoad.NONE, use.road is PictureRoad.CHANNELS
    match kind:
        case StartKind.RESTYLE:
            return None
        case StartKind.TEXT if needs_first:
            return StartRefusal.NEEDS_BOTH if use.needs_last else StartRefusal.NEEDS_FIRST
        case StartKind.TEXT:
            return None
        case StartKind.FIRST if use.needs_last:
            return StartRefusal.NEEDS_BOTH
        case StartKind.FIRST_AND_LAST if not is_blind and not use.takes_last:
            return StartRefusal.TAKES_NO_LAST
        case _:
            return StartRefusal.TEXT_ALONE if is_blind else None


def slots_of(kind: StartKind, use: PictureUse) -> tuple[str, ...]:
    """What is to be given: what the way needs, then the pictures without which the model makes nothing."""
    slots = SLOTS[kind]
    if use.road is PictureRoad.CHANNELS and FIRST not in slots and EXTEND not in slots:
        slots += (FIRST,)
    return (*slots, LAST) if use.needs_last and LAST not in slots else slots


class StartState(QObject):
    """The way to begin and the files for it. Files of a way that is not chosen now are kept for when it is."""

    changed = Signal()

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.use = TEXT_ALONE
        self.files: dict[str, Path] = {}
        self.strength = Given().strength
        self._chosen = StartKind.TEXT

    @property
    def kind(self) -> StartKind:
        """The chosen way, or the first that the model can go."""
        if start_refusal(self._chosen, self.use) is None:
            return self._chosen
        return next(kind for kind in StartKind if start_refusal(kind, self.use) is None)

    @property
    def slots(self) -> tuple[str, ...]:
        """What is to be given, in order."""
        return slots_of(self.kind, self.use)

    @property
    def missing(self) -> tuple[str, ...]:
        """What has to be chosen yet."""
        return tuple(slot for slot in self.slots if slot not in self.files)

    def given(self) -> Given:
        """What goes into a command."""
        return Given(**{slot: self.files.get(slot) for slot in self.slots}, strength=self.strength)

    def take_use(self, use: PictureUse) -> None:
        """Another model, that uses pictures so."""
        if use != self.use:
            self.use = use
            self.changed.emit()

    def choose(self, kind: StartKind) -> None:
        """Begin so, if the model can."""
        if start_refusal(kind, self.use) is None and kind is not self._chosen:
            self._chosen = kind
            self.changed.emit()

    def set_file(self, slot: str, path: Path | None) -> None:
        """This file in a slot, or none."""
        if self.files.get(slot) != path:
            self.files.pop(slot, None)
            if path is not None:
                self.files[slot] = path
            self.changed.emit()

    def set_strength(self, strength: float) -> None:
        """How far a clip is restyled, 0 to 1."""
        if strength != self.strength:
            self.strength = strength
            self.changed.emit()

    def place_for(self, file: Path) -> tuple[StartKind, str] | None:
        """The way and the slot that a dropped file is meant for; None where the model has no use for it."""
        slots, kinds = ((FIRST, LAST), PICTURE_KINDS) if is_picture(file) else ((EXTEND, RESTYLE), CLIP_KINDS)
        if not is_picture(file) and not is_clip(file):
            return None
        here = [slot for slot in self.slots if slot in slots]
        if here:
            return self.kind, next((slot for slot in here if slot not in self.files), here[0])
        return next(((kind, SLOTS[kind][0]) for kind in kinds if start_refusal(kind, self.use) is None), None)

    def take_file(self, file: Path) -> None:
        """Put a dropped file where it is meant for, if there is such a place."""
        place = self.place_for(file)
        if place is not None:
            self.choose(place[0])
            self.set_file(place[1], file)


PICTURE_KINDS: Sequence[StartKind] = (StartKind.FIRST, StartKind.FIRST_AND_LAST)
CLIP_KINDS: Sequence[StartKind] = (StartKind.EXTEND, StartKind.RESTYLE)
