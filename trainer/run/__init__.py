"""Around a training: one at a time, stopped and resumed, with what it writes beside its file and says on the way."""
