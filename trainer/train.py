"""Train an eraser: one hypernetwork file that makes a model forget concepts.

    python ComfyUI/custom_nodes/unhype/trainer/train.py --base MODEL.safetensors --erase "cat -> forest" --out cat
    python trainer/train.py --config trainer/configs/demo_cat.yaml
    python trainer/train.py --init my.yaml                 (a file of settings to start from, each one explained)
    python trainer/train.py --config ... --dry-run         (what it takes and whether it fits, from the file's header)
    python trainer/train.py --config ... --resume          (after Ctrl+C, a crash or a power cut)
    python trainer/train.py --config ... --overwrite       (in place of the eraser that is there)

It works from any folder: a path with a folder is taken from where you are, and MODEL and cat, without one, lie where
ComfyUI looks: in models/checkpoints or diffusion_models, and in models/unhype.

Beside the eraser file it writes an .html page of how it goes, a .jsonl log, .previews/*.png, a .cache of samples and a .state to
resume from, and into the folder written-text.cache, for every training there. It ends with a verdict, on prompts that the
training did not see; where it misses a bar of the settings, the exit code is 3.
ComfyUI is found by --comfyui, COMFYUI_PATH, or the folder the pack lies in.
"""

import time

STARTED = time.time()

import sys
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from host import memory
from host.backbone import Backbone
from host.load import load_backbone
from host.memory import device_memory
from host.start import comfy_version, find_comfy, start_comfy
from trainer import dry_run, previews, rewriting, state, switch
from trainer.config import Config, ConfigError, begin, options, settings_of
from trainer.data import Data
from trainer.extend import take_over
from trainer.found.finder import Finder
from trainer.optimizer import new_optimizer
from trainer.page.keeper import Page
from trainer.prompts import doubts
from trainer.prompts.neighbours import resolve
from trainer.run import processes
from trainer.run.beside import log_path
from trainer.run.checkup import Checkup
from trainer.run.divergence import Diverged
from trainer.run.guard import Guard
from trainer.run.lock import Busy, only_run
from trainer.run.log import Log, peak_mb
from trainer.run.phases import Phases, in_words, planned
from trainer.run.progress import Progress, never_refuse, noting_warnings, plans, say, watched
from trainer.run.stop import StopRequest, raise_when_asked
from trainer.settings.before import check_loaded, prepare
from trainer.settings.paths import where_to_find
from trainer.slider import measured_onset
from trainer.states import States
from trainer.step import training_step
from trainer.verdict import HeldOut, judge
from unhype.checkpoint import Concept, Eraser, load_eraser, save_eraser
from unhype.condition import parts
from unhype.fold import folded, seen_by_heads
from unhype.hypernetwork import Hypernetwork
from unhype.layers import layer_table
from unhype.sketch import in_full, sketch

MISSED = 3  # exit code of a training that misses a bar
RECIPE = 6  # counted up where the same settings make another eraser than before


def new_network(config: Config, backbone: Backbone, data: Data) -> tuple[Hypernetwork, str]:
    """A fresh hypernetwork for the backbone's layers and text widths, its standardisation fitted."""
    family = backbone.family
    seen = data.conditions[0]
    torch.manual_seed(config.seed)
    layers = layer_table(backbone.diffusion_model, family)
    network = Hypernetwork(config.shape(layers, seen.pooled.shape[1], seen.tokens.shape[2], family))
    network.standardise.fit(*data.conditions)
    if config.add_to:
        take_over(network, [e.name for e in config.erased()], load_eraser(config.add_to))
    return network, family.name


def fit_switch(config: Config, network: Hypernetwork, data: Data) -> list[dict]:
    """Fit the switch on four fifths of prompts and written text, and calibrate it on the rest; returns a report per concept."""
    safe = torch.zeros(len(data.safe_texts), len(config.erase), dtype=torch.bool)
    labels = torch.cat([data.named, safe]).repeat(len(config.clip_skips), 1)
    reading = data.text_read.and_also(States.together([States.of(c) for c in data.conditions]), labels)
    fitted, held_out = ((reading.held_out == out).nonzero().flatten() for out in (False, True))
    switch.fit_switch(network, reading.states, reading.labels, config.seed, fitted)
    network.switch.requires_grad_(False)
    return switch.calibrate(network, reading.states.rows(held_out), reading.labels[held_out])


@torch.no_grad()
def usual_length(network: Hypernetwork, data: Data) -> torch.Tensor:
    """Of every concept the median length of the adapters of the prompts that name it alone, at s = S: (K,)."""
    device, condition = network.least.device, data.target_conditions[0]
    length = [
        network.squared_change(some.to(device), torch.full((len(some.pooled),), float(network.shape.steps), device=device)).sqrt()
        for part in parts(condition)
        for some in [condition.rows(part)]
    ]
    alone = data.named & (data.named.sum(1, keepdim=True) == 1)
    return torch.stack([torch.cat(length)[rows.to(device)].median() for rows in alone.T])


def make_room(config: Config, backbone: Backbone, progress=print) -> None:
    """On a graphics card: text encoders off it, and the training step run in the fastest way that fits.

    Raises ValueError where none does.
    """
    *_, step = dry_run.measure(config, *backbone.shapes())
    _, total = device_memory()
    plan = memory.plan(step, -(-config.batch // processes.count()), total)
    if plan is None:
        raise ValueError(
            f"a training step at {config.size} takes {step.peak(1, True, True) / memory.GB:.1f} GB even with one row, this card has "
            f"{total / memory.GB:.1f}: make size, rank or hidden smaller"
        )
    backbone.clip = None  # every prompt has been encoded
    progress(f"memory: {plan.peak / memory.GB:.1f} of {total / memory.GB:.1f} GB, {plan}")
    backbone.rows = plan.rows
    if plan.recompute:
        memory.recompute_blocks(backbone.diffusion_model, backbone.family)
    backbone.load_again(step.peak(plan.rows, plan.recompute, True) if plan.offload else None)


@planned
def train(
    config: Config,
    backbone: Backbone,
    resume: bool = False,
    imported: float = 0.0,
    progress=say,
    started: float = 0.0,
    judged: bool = True,
    stop: StopRequest | None = None,
) -> Eraser:
    """Train and save the eraser, and judge it. Asked to stop (Ctrl+C) it saves the state and raises KeyboardInterrupt; after an
    error the last one saved stays.

    The caller holds `only_run(config.out)`.
    Args:
        imported: seconds that the import of the host took, left out of train_seconds. started: when these began; 0: now.
        judged: False leaves the verdict out. stop: who is asked whether to stop; the process's signals where none is given.
    """
    started, out = started or time.time(), Path(config.out)
    phases = Phases(started, imported)
    warnings, progress = noting_warnings(progress)
    out.parent.mkdir(parents=True, exist_ok=True)
    plans[-1].row = check_loaded(config, backbone)
    doubts.warn(doubts.on_both_sides(config), progress)
    phases.begin("encoding")
    with watched(backbone, "encoding concepts and their neighbours", None, progress):
        known = state.erased_before(config) if resume else []
        config = resolve(config.for_family(backbone.family), backbone, progress, draws=True, known=known)
    processes.check(config)
    if resume:
        state.refuse_other_settings(config)
    data = Data(config, backbone, progress, phase=phases.begin)
    phases.begin("encoding")
    held_out = HeldOut(config, backbone, data, progress) if judged else None
    finder = Finder(config, backbone, data.seen(), progress) if config.finds() else None
    shown = previews.shown(backbone, data.targets, data.retain) if config.preview_every and config.trains() else None
    phases.begin("switch")
    network, family = new_network(config, backbone, data)
    names = [Concept(e.name, e.mapping) for e in config.erased()]
    base = {"name": Path(config.base).name, "sketch": sketch(network.shape.layers, lambda name: in_full(*backbone.stored_weight(name)))}
    said = asdict(config) | {"out": out.name}  # not the folders of who trained it
    eraser = Eraser(network, family, names, said, base=base, source=out.name)
    for concept, calibration in zip(names, fit_switch(config, network, data)):
        concept.calibration = calibration
        progress(
            f"switch for {concept.name!r}: threshold {calibration['threshold']:.2f} between safe prompts up to "
            f"{calibration['highest_safe']:.2f} and targets from {calibration['lowest_target']:.2f}; of held-out prompts "
            f"{calibration['misses']:.1%} missed, {calibration['false_alarms']:.1%} false alarms"
        )
    if network.rewriting:
        rewriting.fit(network, data)
        rewriting.fit_joins(network, backbone, data.text_read)
        data.answers = None
    doubts.warn(doubts.badly_told_apart([c.name for c in names], [c.calibration for c in names]), progress)
    if backbone.device.type != "cpu":
        make_room(config, backbone, progress)
    optimizer = new_optimizer(network.to(backbone.device), config)
    processes.alike(network)
    rng = torch.Generator().manual_seed(config.seed)
    done = state.load_state(config, network, optimizer, rng, progress, finder) if resume else 0
    given, step = config, partial(training_step, network, backbone, data=data)
    config = finder.begin(network, step) if finder else config if config.trains() else replace(config, iterations=0)

    phases.begin("steps")
    guard = Guard(optimizer, progress)
    checkup = Checkup(optimizer, config, (data.target_conditions[0], data.safe_conditions[0]), names, guard, progress)
    with Log(log_path(out), done) as log, Page(config, backbone.family.title, names, done, progress, phases) as page:

        def refresh() -> None:
            phases.begin("previews")
            rows = previews.new_rows(backbone, network, config, shown, done, eraser.onset) if shown and processes.first() else None
            page.refresh(done, checkup.look(network), rows, bar.left())
            phases.begin("steps")

        seconds = lambda: round(log.seconds + time.time() - started - imported, 1)
        pictures_due = lambda: done % (config.preview_every or config.save_every) == 0 and done < config.iterations
        with Progress(out.stem, config.iterations, done, say=progress) as bar, stop or StopRequest() as stop:
            if done and pictures_due():  # it may have been killed before they were drawn
                refresh()
            while done < config.iterations:
                before = rng.get_state()
                try:
                    losses = step(config=config, optimizer=optimizer, rng=rng, iteration=done)
                except stop.kinds:  # nothing of the step has come to the weights yet
                    rng.set_state(before)
                    stop.asked = True
                except Diverged as error:
                    done += 1
                    bar.advance()
                    log.write(iteration=done, left_out=True, seconds=seconds())
                    guard.failed(error)
                else:
                    done += 1
                    bar.advance(**losses)
                    guard.passed(losses)
                    checkup.passed(losses)
                    looked = finder.passed(done, network) if finder else {}
                    log.write(iteration=done, **{k: round(v, 6) for k, v in losses.items()}, **looked, seconds=seconds())
                    if finder:
                        config = finder.config()
                        bar.expects(config.iterations)
                        page.expects(config.iterations, finder.open)
                page.facts.done, stop.asked = done, processes.any_of(stop.asked)
                if stop.asked or done % config.save_every == 0 or done == config.iterations:
                    log.flush()
                    guard.settle()
                    if done:
                        state.save_state(given, done, network, optimizer, rng, finder)
                if stop.asked:
                    processes.wait()
                    progress(f"stopped at iteration {done}: saved to {state.state_path(config)}, {stop.then}")
                    raise KeyboardInterrupt
                if pictures_due():
                    log.flush()
                    refresh()
        guard.ended()
        phases.begin("fold")
        network, lost = folded(network, seen_by_heads(network, data.target_conditions[0]), config.bottleneck)
        eraser.network = network
        if network.shape.bottleneck:
            progress(f"folded to {network.shape.bottleneck} numbers a layer: adapters lie off by {lost:.1%}")
        network.to(backbone.device)
        network.least = usual_length(network, data)
        phases.begin("strengths")
        eraser.onset = measured_onset(backbone, network, config, data.asked, progress) if config.trains() else ()
        eraser.metrics = {
            "fold_error": round(lost, 5),
            "train_seconds": seconds(),
            "host_import_seconds": round(imported, 1),
            "train_peak_mb": peak_mb(),
            **({"found": finder.metrics()} if finder else {}),
            "recipe": RECIPE,
            "versions": {"torch": str(torch.__version__), "comfyui": comfy_version()},
        }
        if processes.first():
            save_eraser(eraser, out)
        log.flush()
        refresh()
        phases.begin("verdict")
        own = eraser.metrics
        if processes.first():
            progress(f"saved {out} ({out.stat().st_size / 1e6:.1f} MB) after {own['train_seconds']} s, at most {own['train_peak_mb']} MB")
        if held_out:
            ended = finder and not given.iterations and not finder.open  # by itself
            own["verdict"] = judge(replace(config, iterations=0) if ended else config, backbone, network, held_out, page.heard, warnings)
            own["phases"] = phases.spent()
            log.write(verdict=own["verdict"], phases=own["phases"])
            if processes.first():
                save_eraser(eraser, out)
            progress(f"where the time went: {in_words(own['phases'])}")
    progress(where_to_find(out))
    return eraser


def main(argv: list[str]) -> int:
    never_refuse()
    raise_when_asked()
    try:
        given, arguments = options(argv, __doc__)
        if arguments.init:
            say(begin(given, arguments.init))
            return 0
        config, arguments = settings_of(given, arguments)
        before = time.time()
        start_comfy(find_comfy(arguments.comfyui))
        imported = time.time() - before
        config = prepare(config, arguments)
        if arguments.dry_run:
            say(dry_run.report(config))
            doubts.warn(doubts.on_both_sides(config), say)
            return 0
        with processes.joined(), only_run(config.out) if processes.first() else nullcontext():
            if arguments.resume:
                state.saved(config)
            backbone = load_backbone(config.base, config.text_encoders, config.vae)
            eraser = train(config, backbone, arguments.resume, imported, started=STARTED)
    except KeyboardInterrupt:
        return 130
    except (ConfigError, Busy, Diverged, FileNotFoundError, ValueError, OSError) as error:
        say(f"error: {error}", error=True)
        return 1
    return 0 if eraser.metrics["verdict"]["passed"] else MISSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
