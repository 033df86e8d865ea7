"""From noise to latents: pure functions."""
