"""The Tessera window. Knows Qt, never torch."""
