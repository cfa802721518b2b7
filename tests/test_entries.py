"""What people type to say what is erased and kept, and the files that they keep it in."""

import pytest

from trainer.config import ConfigError, from_mapping, parse_arguments
from trainer.prompts.concepts import parse_erase
from trainer.prompts.entries import fault

GOOD = {"base": "demo", "erase": ["cat -> forest"], "out": "out/cat.safetensors", "retain": ["dog"]}


def settings(**changes):
    return from_mapping({**GOOD, **changes}, "a.yaml")


@pytest.mark.parametrize("arrow", ["- >", *"-> → ⇒ => ➜ --> ⟶ ⟹ ➡️ ➤ ▶ ► ~> ==> —> –> －＞ ＝＞ > >> ->>".split()])
@pytest.mark.parametrize("blank", [" ", "", "\t", "\u00a0 "])
def test_every_arrow_is_an_arrow(arrow, blank):
    entry = parse_erase(f"cat,kitty{blank}{arrow}{blank}old forest")
    assert (entry.words, entry.mapping) == (("cat", "kitty"), "old forest")


@pytest.mark.parametrize(
    "entry, words, mapping",
    [
        ("“cat” → “forest”", ("cat",), "forest"),
        ('"cat -> forest"', ("cat",), "forest"),
        ("'cat, kitty' -> 'forest'", ("cat", "kitty"), "forest"),
        ("«cat» -> «forest»", ("cat",), "forest"),
        ("„cat“ -> ‚forest‘", ("cat",), "forest"),
        ("ｃａｔ，　ｋｉｔｔｙ → ｆｏｒｅｓｔ", ("cat", "kitty"), "forest"),
        ("猫、ねこ → 森", ("猫", "ねこ"), "森"),
        ("\ufeffcat\u200b -> forest", ("cat",), "forest"),
        ("🐱 -> forest", ("🐱",), "forest"),
        ("📲 -> 🔍", ("📲",), "🔍"),
        ("❤️ ➡️ forest", ("❤️",), "forest"),
        ("x-men -> van gogh's room", ("x-men",), "van gogh's room"),
        ("'90s style", ("'90s style",), "?"),
    ],
)
def test_what_people_type_is_read_as_they_mean_it(entry, words, mapping):
    found = parse_erase(entry)
    assert (found.words, found.mapping) == (words, mapping) and not fault(entry)


@pytest.mark.parametrize("entry", ["cat -", "cat >", "cat ->", "cat --", "cat =", "cat-", "-", "→", "cat →", "cat –"])
def test_what_a_shell_leaves_of_an_unquoted_entry_is_refused(entry):
    with pytest.raises(ConfigError, match="erase is .*put the entry in quotes, and delete the file"):
        settings(erase=[entry])


def test_what_a_shell_leaves_on_the_command_line_is_refused():
    rest = ["--base", "demo", "--out", "out/x.safetensors"]
    for left in (["cat", "-"], ["cat", "="], ["cat", "→", "forest"]):
        with pytest.raises(ConfigError, match="in quotes"):
            parse_arguments(["--erase", *left, *rest], "")
    with pytest.raises(ConfigError, match="in quotes"):
        parse_arguments(["--erase", "cat", "--", *rest], "")


@pytest.mark.parametrize(
    "entry", ["forest <- cat", "forest ← cat", "cat <-> dog", "cat -> forest,", "cat -> dog; bird -> sky", ", cat", "cat,", '"']
)
def test_a_malformed_entry_is_refused_and_shows_a_good_one(entry):
    with pytest.raises(ConfigError, match="a target and a mapping concept, like"):
        settings(erase=[entry])


@pytest.mark.parametrize("name", ["erase", "retain", "retain_prompts", "templates", "remove"])
@pytest.mark.parametrize(
    "text", ["nowhere.txt", "lists/keep.csv", "./keep", "~/keep", "/tmp/no such/keep", r"C:\lists\keep", "keep.docx", "a b.TXT"]
)
def test_what_looks_like_a_file_and_is_none_is_refused(name, text):
    with pytest.raises(ConfigError, match=f"a.yaml: {name} is .*TXT or CSV"):
        settings(**{name: [text]})


@pytest.mark.parametrize("entry", ["concepts.txt -> forest", "cat -> concepts.txt", "cat, my.csv -> forest"])
def test_a_file_inside_an_entry_is_refused(entry):
    with pytest.raises(ConfigError, match="a.yaml: erase is .*A file of entries stands alone"):
        settings(erase=[entry])


@pytest.mark.parametrize(
    "prompt", ["black and/or white", "AC/DC on stage", r"a dog \(anime\), 1/2", "a " * 300 + "/ b", "Mr. Bean", "v1.5"]
)
def test_what_only_resembles_a_path_is_a_prompt(prompt):
    assert settings(retain_prompts=[prompt]).retain_prompts == [prompt]


def test_a_control_character_is_refused():
    with pytest.raises(ConfigError, match="control characters"):
        settings(retain_prompts=["a dog\x1b[2J"])


def test_erase_reads_a_text_file(tmp_path):
    path = tmp_path / "my concepts.txt"
    path.write_bytes("\ufeff# what goes\r\n\r\ncat, kitty → forest  # for now\r\n“owl” => sky\r\n\tghost\r\n#end".encode())
    config = settings(erase=[str(path), "bus -> sky"])
    assert [(e.words, e.mapping) for e in config.erased()] == [
        (("cat", "kitty"), "forest"),
        (("owl",), "sky"),
        (("ghost",), "?"),
        (("bus",), "sky"),
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_erase_reads_a_table(tmp_path, mark):
    path = tmp_path / "concepts.csv"
    path.write_text(f'note{mark}Concept{mark}Mapping\nx{mark}"cat, kitty"{mark}forest\n\ny{mark}owl{mark}\n')
    assert [(e.words, e.mapping) for e in settings(erase=[str(path)]).erased()] == [(("cat", "kitty"), "forest"), (("owl",), "?")]


def test_retain_prompts_reads_files_and_prompts_mixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "keep.csv").write_bytes('\ufeffid,prompt\n1,"a dog, asleep"\n2,a ""big"" bus\n'.encode())
    (tmp_path / "more.TXT").write_text('"a red car"\n# no\na house\n', encoding="utf-16")
    given = settings(retain_prompts=["keep.csv", "a boat", "more.TXT"]).retain_prompts
    assert given == ["a dog, asleep", 'a ""big"" bus', "a boat", "a red car", "a house"]


def test_a_file_is_found_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "keep.txt").write_text("a boat")
    for name in ("~/keep.txt", "$HOME/keep.txt", "${HOME}/keep.txt", "%USERPROFILE%/keep.txt"):
        assert settings(retain_prompts=[name]).retain_prompts == ["a boat"]


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("k.csv", b"text,id\na dog,1\n", r'k.csv: its first line names the columns text, id, expected "prompt" for retain_prompts'),
        ("k.csv", b"", 'expected "prompt"'),
        ("k.csv", b'prompt\n"a dog\n', "k.csv, line 2: cannot be read as CSV"),
        ("k.txt", b"a dog\n\na caf\xe9\n", "k.txt, line 3: is no UTF-8 text. Save it as UTF-8"),
        ("k.txt", b"# nothing\n", "k.txt: holds no entries for retain_prompts"),
        ("k.txt", b"a\0b", "k.txt: is no text"),
        ("k.txt", b"a dog\nother.txt\n", "k.txt, line 2: retain_prompts is 'other.txt'.*not followed"),
        ("k.md", b"a dog", "retain_prompts is .*k.md', expected a text, or a TXT or CSV file$"),
    ],
)
def test_a_bad_file_of_prompts_is_named_with_its_line(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        settings(retain_prompts=[str(tmp_path / name)])


def test_a_bad_entry_in_a_file_is_named_with_its_line(tmp_path):
    (tmp_path / "c.txt").write_text("cat -> forest\ndog -\n")
    with pytest.raises(ConfigError, match="c.txt, line 2: erase is 'dog -'"):
        settings(erase=[str(tmp_path / "c.txt")])


def test_prompts_that_name_a_target_are_counted():
    with pytest.raises(ConfigError, match=r"retain_prompts is 'a cat', expected prompts that do not name a target \(and 1 more do\)"):
        settings(retain_prompts=["a dog", "a cat", "two Cats and a cat"])
    with pytest.raises(ConfigError, match="retain_prompts is 'a 🐱'"):
        settings(erase=["🐱 -> forest"], retain_prompts=["a 🐱"])


def test_the_files_that_were_read_are_inputs(tmp_path):
    (tmp_path / "keep.txt").write_text("a boat")
    config, arguments = parse_arguments(
        ["--base", "demo", "--erase", "cat", "--out", "o/x", "--retain-prompts", str(tmp_path / "keep.txt")], ""
    )
    assert arguments.inputs == [tmp_path / "keep.txt"] and config.out == "o/x.safetensors"


@pytest.mark.parametrize("entry", ["cat - forest", "cat – forest", "cat | forest", "cat = forest", "cat, kitty — forest"])
def test_what_is_almost_an_arrow_is_no_concept(entry):
    assert "an arrow stands between the two" in fault(entry)


@pytest.mark.parametrize("entry", ["Spider-Man", "Jean-Luc Picard -> man", "Star Wars: A New Hope", "e-mail"])
def test_a_hyphen_inside_a_name_is_none(entry):
    assert fault(entry) == ""
