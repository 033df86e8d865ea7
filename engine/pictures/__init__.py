"""Pictures and clips that videos are made from: read, fitted, encoded."""
