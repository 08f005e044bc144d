"""Settings: precedence, frozen values, and errors that say where and what was meant."""

from pathlib import Path

import pytest

from pareta_agent import config
from pareta_agent.errors import ConfigError


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in list(config.environment()):
        if name.startswith("PARETA_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PARETA_HOME", str(tmp_path / "home"))


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pareta.toml"
    path.write_text(text)
    return path


def test_flags_win_over_environment_over_file_over_defaults(monkeypatch, tmp_path):
    """Each layer overrides only what it names."""
    file = toml(
        tmp_path, 'port = 1\nhost = "file"\ntask = "from-file"\n[engine]\nthreads = 3\nplatform = "cuda"\n'
    )
    monkeypatch.setenv("PARETA_PORT", "2")
    monkeypatch.setenv("PARETA_HOST", "environment")
    monkeypatch.setenv("PARETA_ENGINE_THREADS", "4")
    settings, _ = config.load({"port": 3}, file)
    assert (settings.port, settings.host, settings.task, settings.alias) == (
        3,
        "environment",
        "from-file",
        "recommended",
    )
    assert (settings.engine.threads, settings.engine.platform) == (4, "cuda")


def test_flags_of_a_section_are_dotted_and_none_means_not_given():
    """A flag that was not typed leaves the lower layers alone."""
    settings, _ = config.load({"engine.command": "python engine.py", "port": None})
    assert (settings.engine.command, settings.port) == ("python engine.py", 8000)


def test_the_file_under_home_is_read_without_being_named(tmp_path):
    """`$PARETA_HOME/config.toml` is the default file."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "config.toml").write_text("port = 9\n")
    assert config.load({})[0].port == 9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prot = 1\n", "unknown key prot in {file} (did you mean port?)"),
        ('[engine]\npyton = "x"\n', "unknown key engine.pyton in {file} (did you mean engine.python?)"),
        ("port = 70000\n", "port = 70000 in {file}: Input should be less than or equal to 65535"),
        (
            "[engine]\nidle_sleep_s = inf\n",
            "engine.idle_sleep_s = inf in {file}: Input should be a finite number",
        ),
        ("[[endpoints]]\nalias = 'a'\n", "endpoints.0.task"),
        (
            "[[endpoints]]\ntask = 't'\nid = 'a/../b'\n",
            "endpoints.0.id = 'a/../b' in {file}: String should match",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_its_place_and_what_was_meant(tmp_path, text, said):
    """The message names key, file and the likely name."""
    file = toml(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        config.load({}, file)
    assert said.format(file=file) in caught.value.message
    assert caught.value.exit_code == 2


def test_every_problem_is_told_at_once(tmp_path):
    """Nobody mends a file one key at a time."""
    with pytest.raises(ConfigError) as caught:
        config.load({}, toml(tmp_path, "prot = 1\nhots = 2\n"))
    assert "prot" in caught.value.message
    assert "hots" in caught.value.message


def test_an_unknown_key_of_a_section_in_the_environment_is_fatal(monkeypatch):
    """`PARETA_ENGINE_…` is ours, so a misspelling is an error."""
    monkeypatch.setenv("PARETA_ENGINE_PYTON", "x")
    with pytest.raises(
        ConfigError, match=r"unknown key engine.pyton in the environment \(PARETA_ENGINE_PYTON\)"
    ):
        config.load({})


def test_a_foreign_name_warns_and_the_sdks_own_names_do_not(monkeypatch):
    """`PARETA_API_KEY` belongs to the SDK."""
    monkeypatch.setenv("PARETA_API_KEY", "x")
    monkeypatch.setenv("PARETA_PROT", "1")
    assert config.load({})[1] == ["PARETA_PROT is not a setting (did you mean PARETA_PORT?); it is ignored"]


@pytest.mark.parametrize("text", ["port = ", "\xff"])
def test_a_file_that_is_not_toml_is_refused(tmp_path, text):
    """The parser's own word is passed on with the file's name."""
    file = tmp_path / "pareta.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError) as caught:
        config.load({}, file)
    assert caught.value.code == "config_not_toml"


def test_a_file_that_is_missing_is_refused(tmp_path):
    """A named file must exist."""
    with pytest.raises(ConfigError) as caught:
        config.load({}, tmp_path / "none.toml")
    assert caught.value.code == "config_unreadable"


def test_sockets_have_short_paths_however_long_the_home_is():
    """A unix socket's path ends at 107 bytes."""
    assert len(str(config.run_dir(Path("/" + "x" * 200)))) < 50
    assert config.run_dir(Path("/srv/pareta")) == Path("/srv/pareta/run")


def test_settings_are_frozen():
    """Nobody changes a setting after the start."""
    settings, _ = config.load({})
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1
