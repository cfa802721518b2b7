"""trainer/train.py with few texts, for trainings in processes of their own."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from few import few_texts

few_texts(setattr)

from trainer.train import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
