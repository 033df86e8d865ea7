"""Encoding pictures and video in strips, exactly."""
