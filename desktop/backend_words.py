"""What the window says about attention back ends and why they cannot be used; pure functions for the UI thread."""

from PySide6.QtCore import QCoreApplication

from engine.attention.availability import Reason
from engine.commands import BackendState
from engine.generation import AttentionBackend

translate = QCoreApplication.translate  # under this name lupdate finds the strings


def backend_name(backend: AttentionBackend) -> str:
    """A back end, as an entry of the list."""
    return {
        AttentionBackend.SDPA: translate("optimise", "PyTorch, exact"),
        AttentionBackend.FLASH_ATTN: translate("optimise", "FlashAttention, exact"),
        AttentionBackend.SAGEATTN: translate("optimise", "SageAttention, 8 bits"),
        AttentionBackend.SAGEATTN_3: translate("optimise", "SageAttention 3, 4 bits"),
        AttentionBackend.SAGEATTN_3_FP8: translate("optimise", "SageAttention 3, 8 bits"),
        AttentionBackend.SAGEATTN_3_FP4: translate("optimise", "SageAttention 3, 4 bits, less memory"),
    }[backend]


def unavailable_text(state: BackendState) -> str:
    """Why a back end cannot be used here; empty for one that can. A code without words is told as it is."""
    if state.is_available:
        return ""
    if state.reason not in [reason.value for reason in Reason]:
        return translate("optimise", "Not available here ({reason}).").format(
            reason=" ".join(filter(None, (state.reason, state.detail))) or "?"
        )
    return reason_text(Reason(state.reason), state.detail)


def reason_text(reason: Reason, detail: str) -> str:
    """A reason in words."""
    return {
        Reason.NOT_OFFERED: translate("optimise", "No package offers it. What comes nearest is {nearest}."),
        Reason.NOT_NVIDIA: translate("optimise", "It needs an NVIDIA card."),
        Reason.OLDER_CARD: translate("optimise", "The card is too old: it needs compute capability {detail}."),
        Reason.NEWER_CARD: translate("optimise", "The card is too new for it: it knows compute capability {detail}."),
        Reason.OTHER_CARD: translate(
            "optimise", "It has no kernels for this card, only for compute capability {detail}."
        ),
        Reason.WRONG_DTYPE: translate("optimise", "This model computes in another number format than {detail}."),
        Reason.WRONG_HEAD_DIM: translate("optimise", "The attention heads of this model are not {detail} wide."),
        Reason.PACKAGE_MISSING: translate("optimise", "The package {detail} is not installed."),
        Reason.PACKAGE_TOO_OLD: translate("optimise", "The package is too old: {detail} is needed."),
        Reason.PACKAGE_BROKEN: translate("optimise", "Its package cannot be loaded: {detail}."),
    }[reason].format(detail=detail.rstrip("."), nearest=_nearest(detail))


def _nearest(detail: str) -> str:
    known = detail in [backend.value for backend in AttentionBackend]
    return backend_name(AttentionBackend(detail)) if known else detail


def compile_text(reason: str) -> str:
    """Why blocks cannot be compiled here; empty where they can. A code without words is told as it is."""
    if not reason:
        return ""
    reasons = {
        "frozen": translate("optimise", "This installation does not carry what compiling takes."),
        "other_device": translate("optimise", "Only for NVIDIA cards and processors."),
        "no_triton": translate("optimise", "The package triton is not installed."),
        "older_card": translate("optimise", "The card is too old for it."),
        "no_compiler": translate("optimise", "There is no compiler on this computer."),
        "no_headers": translate("optimise", "The headers of Python are not installed."),
    }
    return reasons.get(reason, translate("optimise", "Not available here ({reason}).").format(reason=reason))
