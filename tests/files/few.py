"""A training that reads few texts, fits its switch in few steps and measures strengths on few pictures, where what that is worth is not
looked at."""


def few_texts(put) -> None:
    """put: as setattr; a monkeypatch's in a test, setattr itself in a process of its own."""
    from trainer import data, reading, slider, switch
    from trainer.prompts import neighbours, rolls, sentences, unfamiliar
    from trainer.prompts.written import written

    known = neighbours.VOCABULARY[:60]
    put(neighbours, "VOCABULARY", known)
    put(unfamiliar, "VOCABULARY", known)
    put(data, "VOCABULARY", 40)
    for module, counts in (
        (rolls, {"WORDS": 40, "PEOPLE": 20, "TARGETS": 12, "FEWEST": 6}),
        (sentences, {"SAFE": 20, "FEWEST": 20, "MOST": 40}),
    ):
        for name, count in counts.items():
            put(module, name, count)
    put(reading, "written", lambda: written()[::100])
    put(switch, "ITERATIONS", 60)
    put(slider, "PICTURES", 4)
