"""ComfyUI outside the nodes: found, started, and used to load a base, encode, sample, predict and count memory."""
