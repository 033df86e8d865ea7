"""Makes the embedded model's `spiece.model`: a small SentencePiece vocabulary (byte pairs) that falls back to bytes."""

import io
from pathlib import Path

import numpy as np
import sentencepiece

from resources.mini.world import all_captions, wording

WORDS = (
    "a an the and or of in on at to is are with without from into over under behind front background video clip "
    "picture slow fast small large big little dark light bright soft shape thing object one two three"
)


def train_vocabulary(out: Path, size: int, seed: int) -> None:
    """Train on many wordings of every caption and write the model to `out`; ids as umT5 has them."""
    rng = np.random.default_rng(seed)
    lines = [wording(caption, rng) for caption in all_captions() for _ in range(8)] + WORDS.split() * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=size,
        byte_fallback=True, hard_vocab_limit=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    out.write_bytes(model.getvalue())
