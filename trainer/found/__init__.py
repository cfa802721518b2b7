"""Settings that nobody gave, found on the base at hand: how fast and how long it is trained, by quick looks on the way."""
