"""Which parameters of the transformer are used in float32, whatever they are stored in. Pure and torch-free."""

# Those whose names alone do not say so: layer norms of the image embedding among them.
PREFIXES = ("time_", "head.", "img_emb.emb_pos", "img_emb.proj.0.", "img_emb.proj.4.")


def keeps_float32(name: str) -> bool:
    """Whether the parameter called `name` is used in float32 whatever the model's dtype, and is best stored so."""
    return name.startswith(PREFIXES) or "norm" in name or "modulation" in name
