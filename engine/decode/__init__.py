"""From latents to pixels, in pieces and exactly."""
