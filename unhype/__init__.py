"""UnHype's method in pure torch: a hypernetwork from a prompt's condition to LoRA factors (arXiv 2602.03410)."""
