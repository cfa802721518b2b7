"""What the trainer reads: concepts, templates, words, wordings and neighbours."""
