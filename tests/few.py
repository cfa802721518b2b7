"""A training that reads few texts and fits its switch in few steps, where what that is worth is not looked at."""


def few_texts(put) -> None:
    """put: as setattr; a monkeypatch's in a test, setattr itself in a process of its own."""
    from trainer import data, reading, switch
    from trainer.prompts import neighbours, rolls, unfamiliar
    from trainer.prompts.written import written

    known = neighbours.VOCABULARY[:60]
    put(neighbours, "VOCABULARY", known)
    put(unfamiliar, "VOCABULARY", known)
    put(data, "VOCABULARY", 40)
    put(rolls, "WORDS", 40)
    put(rolls, "PEOPLE", 20)
    put(rolls, "TARGETS", 12)
    put(rolls, "FEWEST", 6)
    put(reading, "written", lambda: written()[::100])
    put(switch, "ITERATIONS", 60)
