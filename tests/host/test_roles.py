"""Guiders name their conditionings as they like: which are erased, and which are left alone."""

import logging

import pytest
import torch


def guider_of(model, conds, name="OwnGuider"):
    """A pack's guider: roles of its own, and a prediction from all of them at once."""
    import comfy.samplers

    class Own(comfy.samplers.CFGGuider):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            roles = list(self.conds)
            out = comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[r] for r in roles], x, timestep, model_options or {})
            return comfy.samplers.cfg_function(self.inner_model, out[0], out[1], 3.0, x, timestep, model_options=model_options or {})

    Own.__name__ = name
    guider = Own(model)
    guider.inner_set_conds(conds)
    return guider


@pytest.mark.parametrize("role", ["uncond", "unconditional", "neg", "Negative", "NEG_2", "negative 1", "uncond2", "empty", "nag_negative"])
def test_a_negative_by_another_name_is_left_alone(s, demo, prompts, erased_model, role, caplog):
    drawn = []
    with caplog.at_level(logging.WARNING, "unhype"):
        for model in (demo.model, erased_model):
            drawn.append(s.sample_with(guider_of(model, {"positive": prompts["safe"], role: prompts["erased"]}), s.noise(), steps=2))
    assert torch.equal(*drawn) and not caplog.records


@pytest.mark.parametrize("role", ["positive", "Positive_1", "pos", "cond", "conditional", "middle", "cond2"])
def test_a_positive_by_another_name_is_erased(s, demo, prompts, erased_model, role, caplog):
    drawn = []
    with caplog.at_level(logging.WARNING, "unhype"):
        for model in (demo.model, erased_model):
            drawn.append(s.sample_with(guider_of(model, {role: prompts["erased"], "negative": prompts["empty"]}), s.noise(), steps=2))
    assert not torch.equal(*drawn) and not caplog.records


@pytest.mark.parametrize("role", ["uc", "style", "no_cond", 3])
def test_an_unknown_role_is_erased_and_named_once(s, demo, prompts, erased_model, role, caplog):
    conds = {role: prompts["erased"], "negative": prompts["empty"]}
    with caplog.at_level(logging.WARNING, "unhype"):
        for _ in range(2):
            drawn = s.sample_with(guider_of(erased_model, conds, f"Guider{role}"), s.noise(), steps=2)
    assert not torch.equal(drawn, s.sample_with(guider_of(demo.model, conds), s.noise(), steps=2))
    (said,) = [r.getMessage() for r in caplog.records]
    assert repr(role) in said and f"Guider{role}" in said
