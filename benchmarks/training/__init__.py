"""What a training survives, and where its time goes: `python dev.py bench --train`."""
