"""How quantised layers are computed, in words for people; UI thread."""

from collections.abc import Iterable

from PySide6.QtCore import QCoreApplication

from engine.events import ProductsChosen

translate = QCoreApplication.translate


def products_text(chosen: Iterable[ProductsChosen]) -> str:
    """A line for each way in which layers are computed; empty where none are quantised."""
    return "\n".join(f"{_way(of.product).format(layers=of.layers)}, {_reason(of.reason)}" for of in chosen)


def _way(product: str) -> str:
    return {
        "dequantized": translate("products", "{layers} quantised layers are computed with their weights' values"),
        "fp8": translate("products", "{layers} quantised layers are computed in 8-bit floats"),
        "nvfp4": translate("products", "{layers} quantised layers are computed in 4-bit floats"),
    }[product]


def _reason(reason: str) -> str:
    return {
        "as_asked": translate("products", "as was asked for."),
        "not_asked": translate("products", "which rounds nothing but the weights."),
        "no_tensor_cores": translate("products", "for no card multiplies weights that are stored so."),
        "not_nvidia": translate("products", "for this is not an NVIDIA card."),
        "uneven_size": translate("products", "for they have sizes that tensor cores do not take."),
        "older_card": translate("products", "for the card is too old for more."),
    }[reason]
