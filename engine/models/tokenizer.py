"""Prompts to umT5 token ids: official cleaning, then the checkpoint's own SentencePiece model."""

import html

import ftfy
from sentencepiece import SentencePieceProcessor

from engine.models.sentencepiece_model import END_OF_SENTENCE


def clean_prompt(text: str) -> str:
    """Mend broken encodings, resolve HTML entities (twice, as officially), and make whitespace single spaces."""
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


class Tokenizer:
    """A SentencePiece model with the end-of-sentence mark that T5 expects."""

    def __init__(self, model: bytes) -> None:
        """Takes a serialized SentencePiece model. Raises RuntimeError when it is none, ValueError without `</s>`."""
        self._pieces = SentencePieceProcessor()
        self._pieces.LoadFromSerializedProto(model)
        if self._pieces.eos_id() < 0:
            raise ValueError(f"its tokenizer has no {END_OF_SENTENCE}")

    @property
    def size(self) -> int:
        """How many ids there are."""
        return int(self._pieces.vocab_size())

    def encode(self, prompt: str, max_tokens: int) -> list[int]:
        """Ids of the cleaned prompt, at most `max_tokens` of them; the last is always `</s>`."""
        ids: list[int] = self._pieces.encode(clean_prompt(prompt))
        return [*ids[: max_tokens - 1], self._pieces.eos_id()]
