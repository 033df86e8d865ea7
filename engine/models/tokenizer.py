"""Prompts to umT5 token ids: official cleaning, then the checkpoint's own SentencePiece model."""

import html
from pathlib import Path

import ftfy
from sentencepiece import SentencePieceProcessor


def clean_prompt(text: str) -> str:
    """Mend broken encodings, resolve HTML entities (twice, as officially), and make whitespace single spaces."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


class Tokenizer:
    """A SentencePiece model with the end-of-sentence mark that T5 expects."""

    def __init__(self, spiece_path: Path) -> None:
        """Raises OSError or RuntimeError when `spiece_path` is no SentencePiece model."""
        self._pieces = SentencePieceProcessor(model_file=str(spiece_path))

    @property
    def size(self) -> int:
        """How many ids there are."""
        return int(self._pieces.vocab_size())

    def encode(self, prompt: str, max_tokens: int) -> list[int]:
        """Ids of the cleaned prompt, at most `max_tokens` of them; the last is always `</s>`."""
        ids: list[int] = self._pieces.encode(clean_prompt(prompt))
        return [*ids[: max_tokens - 1], self._pieces.eos_id()]
