"""emoji-open: a demo base of a few hundred nouns in four drawing styles, with a real pretrained text encoder."""
