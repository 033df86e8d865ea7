"""The transformer in pieces: exact, within a bound on memory that is known before it starts."""
