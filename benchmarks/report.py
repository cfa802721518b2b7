"""The report of a bench run: JSON with the keys that other tools read, and a page with tables, plots and pictures."""


def merit(row: dict) -> tuple:
    """What the better of two trials has more of: H_o, and between equals the same of mean probabilities."""
    return row["h_o"], row["h_o_probability"]


def write(bench, folder) -> None:
    pass
