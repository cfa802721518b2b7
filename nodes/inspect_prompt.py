"""UnHypeInspect: why the eraser fires on a prompt, or does not."""

import math
from typing import Any

from comfy_api.latest import io, ui

from .findings import Finding, Findings, in_short, look
from .loader import UnHype
from .merge import erasers_of
from .picture import draw
from .schema import ERASING, schema
from .words import OUTSIDE, Clip, texts_before, words

MOST = 3  # words or runs of tokens that are named


class UnHypeInspect(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="UnHypeInspect",
            display_name="UnHype Inspect",
            category="unhype",
            description="Shows what an eraser sees in a prompt: each concept's score against its threshold, the tokens that it fires on, "
            "and how strongly each layer would be changed. Nothing is sampled.",
            search=[*ERASING, "why", "score", "threshold"],
            is_output_node=True,
            inputs=[
                UnHype.Input("unhype", optional=True, tooltip="From Load UnHype Eraser or Merge UnHype Erasers."),
                io.Conditioning.Input("conditioning", optional=True, tooltip="The prompt to look at; several may be combined."),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The CLIP that encoded the prompt. Connected, the tokens are named by their words; without it by their place.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="IMAGE", tooltip="The picture on the node; at most the dozen nearest concepts."),
                io.String.Output(display_name="STRING", tooltip="The same as text, of all concepts."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def execute(cls, unhype: object = None, conditioning: list[list[Any]] | None = None, clip: Clip = None) -> io.NodeOutput:
        erasers = erasers_of(unhype)
        if not conditioning:
            raise ValueError("conditioning: nothing is connected, expected a prompt: connect the output of CLIP Text Encode")
        findings, hidden = look(erasers, conditioning), cls.hidden
        texts = texts_before(hidden.prompt or {}, str(hidden.unique_id), "conditioning") if hidden else []
        places = places_of(findings, clip, texts)
        image = draw(findings, " + ".join(eraser.source for eraser in erasers), places)
        return io.NodeOutput(image, in_words(findings, places), ui=ui.PreviewImage(image, cls=None))


def places_of(findings: Findings, clip: Clip, texts: list[str]) -> dict[str, str]:
    """Where in its prompt each concept stands, by name."""
    named = {row: words(clip, texts, findings.states[row]) for row in {f.row for f in findings.concepts}} if clip else {}
    return {f.name: place(f, named.get(f.row), findings.prompts) for f in findings.concepts if f.tokens}


def place(finding: Finding, named: list[str] | None, prompts: int) -> str:
    """Tokens by word where that is known, the surest first, else by number: "cat" (2) and 37 after the text."""
    parts = by_word(finding.tokens, named) if named else [f"token{'s' * (len(finding.tokens) > 1)} {ranges(finding.tokens)}"]
    return " and ".join(parts) + (f", prompt {finding.row + 1} of {prompts}" if prompts > 1 else "")


def by_word(tokens: list[int], named: list[str]) -> list[str]:
    said = [f'"{named[t]}" ({t})' for t in tokens if named[t] not in OUTSIDE][:MOST]
    behind = sum(named[t] in OUTSIDE for t in tokens)
    return [", ".join(said)] * bool(said) + [f"{behind} after the text"] * bool(behind)


def ranges(tokens: list[int]) -> str:
    """Numbers in order, neighbours drawn together: 2, 5-7."""
    runs: list[list[int]] = []
    for t in sorted(tokens):
        if runs and t == runs[-1][-1] + 1:
            runs[-1].append(t)
        else:
            runs.append([t])
    said = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(said[:MOST]) + (", ..." if len(said) > MOST else "")


def in_words(findings: Findings, places: dict[str, str]) -> str:
    """A line for each concept, the surest first, then the adapter."""
    lines = []
    for f in findings.concepts:
        score = f"{f.score:.1f}" if math.isfinite(f.score) else "the prompt is empty"
        fires = f"fires on {f.prompts} of {findings.prompts}" if f.prompts else "does not fire"
        where = f", {'on' if f.prompts else 'nearest at'} {places[f.name]}" if f.name in places else ""
        lines.append(f"{f.name}: {fires} ({score}, threshold {f.threshold:.1f}){where}")
    strongest = max(findings.strengths, key=lambda strength: strength[1])
    layers = f"adapter in {len(findings.strengths)} layers, strongest in {strongest[0]} ({strongest[1]:.2f})"
    return "\n".join([*lines, in_short(findings, layers)])
