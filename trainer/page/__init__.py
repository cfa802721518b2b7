"""The page beside an eraser: what is being made, how it goes, and the verdict, in one file that any browser opens."""
