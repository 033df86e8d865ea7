"""What computes attention, and what this machine has of it."""
