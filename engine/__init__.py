"""Tessera's engine: turns commands into videos. Knows torch, never Qt."""
