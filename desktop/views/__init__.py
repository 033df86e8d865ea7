"""Widgets without logic."""
