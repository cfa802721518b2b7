"""Names and tooltips in other languages: nothing lacks, nothing is stale, and the host serves them."""

import json
import re
from pathlib import Path

import pytest
import server as client
from test_help import NODES, PAGES, ROOT

LOCALES = {path.name: path for path in sorted((ROOT / "locales").iterdir())}
ENGLISH = Path(__file__).parents[1] / "files" / "english.json"  # what the translations were made of
TYPED = re.compile(r'"[^"]+"|\b\d{3,}\b|\b(?:kohya|diffusers|adapter|weight patch|quick|normal|thorough)(?=:)')
MADE_ANEW = ("UnHypeLoader", "file")  # the host's list, whose tooltip tells of the files


def english(pack) -> dict:
    """The nodes' own texts, in the form of a locale."""
    found = {}
    for name in NODES:
        schema = getattr(pack, name).define_schema()
        found[name] = {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {i.id: {"name": i.id} | ({} if (name, i.id) == MADE_ANEW else {"tooltip": i.tooltip}) for i in schema.inputs},
            "outputs": {str(n): {"name": o.display_name, "tooltip": o.tooltip} for n, o in enumerate(schema.outputs)},
        }
    return found


def keys(value) -> object:
    return {key: keys(inner) for key, inner in value.items()} if isinstance(value, dict) else None


def texts(value) -> list[str]:
    return [text for inner in value.values() for text in texts(inner)] if isinstance(value, dict) else [value]


def test_there_are_chinese_and_japanese():
    assert set(LOCALES) == {"ja", "zh", "zh-TW"}


def test_the_translations_are_of_the_texts_of_today(pack):
    """Where a text has changed: translate it anew in every locale, then write english.json."""
    assert json.loads(ENGLISH.read_text(encoding="utf-8")) == english(pack)


@pytest.mark.parametrize("locale", LOCALES)
def test_everything_has_an_entry_and_no_entry_is_left_over(pack, locale):
    own, translated = english(pack), json.loads((LOCALES[locale] / "nodeDefs.json").read_text(encoding="utf-8"))
    assert keys(translated) == keys(own)
    for text in texts(translated):
        assert text.strip() and not set(text) & set("{}@|"), text  # signs of the page's own in a message
    for name, node in translated.items():
        said = [
            node["description"],
            *(item["tooltip"] for side in ("inputs", "outputs") for item in node[side].values() if "tooltip" in item),
        ]
        assert all(re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", text) for text in said), name


@pytest.mark.parametrize("locale", LOCALES)
def test_what_a_user_types_is_left_in_english(pack, locale):
    """Choices, examples in quotation marks and numbers of a tooltip stand in its translation as well."""
    own, translated = english(pack), json.loads((LOCALES[locale] / "nodeDefs.json").read_text(encoding="utf-8"))
    for name in NODES:
        for item, text in own[name]["inputs"].items():
            kept = re.findall(
                r'"[^"]+"|\b\d{3,}\b|\b(?:kohya|diffusers|adapter|weight patch|quick|normal|thorough)(?=:)', text.get("tooltip", "")
            )
            assert all(piece in translated[name]["inputs"][item]["tooltip"] for piece in kept), (name, item)


@pytest.mark.parametrize("locale", LOCALES)
def test_what_our_scripts_say_has_an_entry(locale):
    script = (ROOT / "web/js/unhype_erasers.js").read_text(encoding="utf-8")
    said = re.findall(r"(\w+): \"", re.search(r"ENGLISH = \{(.*?)\};", script)[1])
    assert list(json.loads((LOCALES[locale] / "main.json").read_text(encoding="utf-8"))["unhype"]) == said and len(said) == 3


@pytest.mark.parametrize("page", sorted(PAGES.glob("*/*.md")), ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_a_translated_help_page_has_the_same_rows(page):
    """Inputs and messages by the names that are shown, which are English."""
    first = lambda text: re.findall(r"^\| (.+?) \|", text, re.M)
    own, translated = ((p.read_text(encoding="utf-8")) for p in (PAGES / f"{page.parent.name}.md", page))
    errors = own.split("## Messages")[1].split("Warnings in the console")[0]
    assert first(translated.split("\n## ")[-1])[1:] == first(errors)[1:]
    assert page.stem in LOCALES and re.findall(r"\]\((.+?)\)", translated) == re.findall(r"\]\((.+?webp)\)", own)


def test_the_host_serves_them(server: client.Server):
    served = server.get("/i18n")
    for locale, folder in LOCALES.items():
        defs = served[locale]["nodeDefs"]
        assert {name: defs[name] for name in NODES} == json.loads((folder / "nodeDefs.json").read_text(encoding="utf-8"))
        assert served[locale]["unhype"]["all"]
