"""The headless trainer: makes the eraser files that the nodes read."""
