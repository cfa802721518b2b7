"""The demo base: a small text-to-image model of emoji, so that everything runs with nothing downloaded."""
