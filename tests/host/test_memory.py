"""Memory: what is counted without data is what autograd keeps, and blocks computed again give the same gradients."""

import pytest
import torch

NAMES = ("sd1", "sdxl", "flux-dev")


def own_network(model, m, name):
    """The trainer's own classes, which the pack has under another name."""
    from trainer import dry_run
    from trainer.config import Config
    from unhype.layers import family_of

    family = family_of(model)
    torch.manual_seed(2)
    config = Config(base="demo", erase=["cat -> forest"], out="x.safetensors", hidden=16, queries=1).for_family(family)
    return family, dry_run.new_network(model, family, config, "cpu")


def step(model, family, network, inputs, rows):
    """Gradients of the hypernetwork after a step like the trainer's, and the bytes kept for them."""
    from host import memory
    from unhype.adapter import Term, adapter

    torch.manual_seed(3)
    batch = {k: torch.randn(rows, *v.shape[1:]) for k, v in inputs.items()}
    condition = memory.empty_condition(network, rows, batch["context"].shape[1], "cpu")
    condition = condition._replace(tokens=batch["context"].clone(), pooled=torch.randn_like(condition.pooled))
    network.zero_grad()
    x = batch.pop("x")
    with memory.Kept([*model.parameters(), *network.parameters(), *network.buffers()]) as kept:
        factors = network(condition, torch.full((rows,), 300.0))
        with adapter(model, [Term(torch.arange(rows), network.shape.layers, factors)], rows):
            loss = model(x, torch.full((rows,), 0.5), transformer_options={}, **batch).square().mean()
            counted = kept.bytes
            loss.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]), counted


def prepared(m, name, monkeypatch):
    import comfy.ldm.flux.math
    import comfy.ldm.modules.attention as attention

    from host.load import allow_gradients
    from trainer import dry_run

    for module in (attention, comfy.ldm.flux.math):
        monkeypatch.setattr(module, "optimized_attention", attention.attention_pytorch)
    model = m.make_model(name).model.diffusion_model
    allow_gradients(model)
    family, network = own_network(model, m, name)
    return model, family, network, dry_run.inputs_of(model, family, (64, 64), 12, torch.float32, "cpu")


@pytest.mark.parametrize("name", NAMES)
def test_blocks_computed_again_keep_less_and_give_the_same_gradients(m, name, monkeypatch):
    from host import memory

    model, family, network, inputs = prepared(m, name, monkeypatch)
    plain, kept = step(model, family, network, inputs, 3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    memory.recompute_blocks(model, family)
    again, kept_less = step(model, family, network, inputs, 3)
    assert plain.abs().max() > 0
    torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-6 * plain.abs().max().item())
    assert kept_less < 0.7 * kept and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_counted_is_what_is_kept(m, name, monkeypatch):
    from host import memory

    model, family, network, inputs = prepared(m, name, monkeypatch)
    kept = [step(model, family, network, inputs, rows)[1] for rows in (1, 4)]
    on_meta = {k: v.to("meta") for k, v in inputs.items()}
    counted = memory.measure(model.to("meta"), family, network.to("meta"), on_meta, 8)
    for rows, real in zip((1, 4), kept):
        assert abs(counted.kept[0] + (rows - 1) * counted.kept[1] - real) < 0.06 * real
    assert counted.weights >= sum(p.numel() * 4 for p in model.parameters()) and counted.flops > 0
    assert counted.recomputed[0] < counted.kept[0] and counted.recomputed[1] < counted.kept[1]


@pytest.mark.parametrize("recompute, offload, rows", [(False, False, 4), (True, False, 2), (True, True, 1)])
def test_the_trainer_makes_room(comfy, recompute, offload, rows, monkeypatch, tmp_path):
    """What a graphics card would have it do, done on the CPU: the step is the same."""

    from host import memory
    from host.load import load_backbone
    from trainer import train
    from trainer.config import from_mapping
    from trainer.data import Data

    values = {"base": "demo", "erase": ["cat -> forest"], "out": str(tmp_path / "x.safetensors"), "retain": ["dog", "car"], "size": "64x64"}
    values |= {"templates": ["a {}", "a {} on blue"], "pictures": 2, "sampling_steps": 2, "kept_steps": 1, "batch": 4, "neighbours": 0}
    values |= {"iterations": 10, "learning_rate": 5e-4}
    backbone = load_backbone("demo")
    config = from_mapping(values, "test").for_family(backbone.family)
    data = Data(config, backbone, lambda _: None)

    def gradients():
        network, _ = train.new_network(config, backbone, data)
        optimizer = train.new_optimizer(network, config)
        train.training_step(network, backbone, config, data, optimizer, torch.Generator().manual_seed(1), 0)
        return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])

    before, said = gradients(), []
    monkeypatch.setattr(memory, "plan", lambda step, batch, total: memory.Plan(rows, recompute, offload, 2 * memory.GB))
    train.make_room(config, backbone, said.append)
    assert backbone.clip is None and backbone.rows == rows
    assert "memory: 2.0 of" in said[0] and ("computed again" in said[0], "main memory" in said[0]) == (recompute, offload)
    torch.testing.assert_close(gradients(), before, rtol=1e-3, atol=1e-5 * before.abs().max().item())


@pytest.mark.parametrize("share, whole", [(0.5, True), (1.1, False)])
def test_weights_larger_than_the_card_are_not_forced_onto_it(comfy, monkeypatch, share, whole):
    import comfy.model_management as management

    from host.load import load_backbone

    backbone, asked = load_backbone("demo"), []
    monkeypatch.setattr(management, "get_total_memory", lambda *_, **__: int(backbone.model.model_size() / share))
    monkeypatch.setattr(management, "load_models_gpu", lambda models, **given: asked.append(given))
    backbone.load()
    assert asked == [{"force_full_load": whole}]


def test_no_room_is_an_error(comfy, monkeypatch):
    import comfy.model_management

    from host.load import load_backbone
    from trainer import train
    from trainer.config import Config

    backbone = load_backbone("demo")
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: 10**8)
    with pytest.raises(ValueError, match="even with one row, this card has 0.1: make size, rank or hidden smaller"):
        train.make_room(Config(base="demo", erase=["cat -> forest"], size="64x64").for_family(backbone.family), backbone)
