"""Observable state: QObjects and item models, no widgets."""
