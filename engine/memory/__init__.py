"""Predicting, probing and holding to memory."""
