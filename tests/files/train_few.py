"""trainer/train.py with few texts, for trainings in processes of their own."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from few import few_texts

few_texts(setattr)

from trainer.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
