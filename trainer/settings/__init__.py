"""The settings of a training: what they are, where they are read from, and what is checked before it begins."""
