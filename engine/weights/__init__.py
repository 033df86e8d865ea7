"""From checkpoint files to networks."""
