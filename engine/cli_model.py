"""The options of a command line that say which files make the model; torch-free."""

import argparse
from dataclasses import fields
from pathlib import Path

from engine.model_choice import LoraUse, ModelParts, WeightForm
from engine.weights.provenance import Expert

PARTS = {
    "low_noise": "the second of two transformers, for the steps with little noise",
    "vae": "the VAE",
    "text_encoder": "the umT5 encoder",
    "tokenizer": "spiece.model, tokenizer.json, or a text encoder that has it inside",
    "image_encoder": "CLIP, for models that start from a picture",
}


def add_part_options(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> None:
    """Options for those parts of a model that are in other places than its folder."""
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, metavar="FILE", help=PARTS[name])


def add_weight_options(parser: argparse.ArgumentParser) -> None:
    """Options for the form of the weights, and for LoRAs."""
    forms, stored = list(WeightForm), WeightForm.STORED
    text = "form of the transformer's large weights; default: as their file has them"
    parser.add_argument("--weights", type=WeightForm, choices=forms, default=stored, help=text)
    text = "round what meets a quantised weight as the weight is, where the card can; faster, and less exact"
    parser.add_argument("--rounds-input", action="store_true", help=text)
    text = "a LoRA, its strength and its transformer where there are two, e.g. style.safetensors@0.8@high_noise"
    parser.add_argument("--lora", type=parse_lora, action="append", default=[], metavar="FILE[@X][@EXPERT]", help=text)


def parts_of(parsed: argparse.Namespace) -> ModelParts:
    """The parts that were named, by full paths; links keep their names, which say what a file is."""
    named = {field.name: getattr(parsed, field.name, None) for field in fields(ModelParts)}
    return ModelParts(**{name: file.absolute() for name, file in named.items() if file is not None})


def parse_lora(text: str) -> LoraUse:
    """`FILE`, `FILE@STRENGTH`, `FILE@EXPERT` or `FILE@STRENGTH@EXPERT`. Raises ValueError for a file without a name."""
    expert, strength = None, 1.0
    file, found = _last(text)
    if found in list(Expert):
        expert, text = Expert(found), file
        file, found = _last(text)
    if _is_number(found):
        strength, text = float(found), file
    if not text:
        raise ValueError("a LoRA has no file")
    return LoraUse(Path(text).absolute(), strength, expert)


def _last(text: str) -> tuple[str, str]:
    """`text` before its last @, and what is behind it; nothing where there is none."""
    before, at, behind = text.rpartition("@")
    return (before, behind) if at else (text, "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
