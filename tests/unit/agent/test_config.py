"""Settings: precedence, frozen values, and errors that say where and what was meant."""

from pathlib import Path

import pytest

from pareta_agent import config
from pareta_agent.bad_setting import allowed
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


@pytest.mark.parametrize(
    ("given", "host"), [("[::1]", "::1"), ("::", "::"), ("0.0.0.0", "0.0.0.0"), ("a.b", "a.b")]
)
def test_an_address_may_be_given_as_in_a_url(given, host):
    """Brackets are for URLs; sockets take the address."""
    assert config.load({"host": given})[0].host == host


@pytest.mark.parametrize(
    ("given", "origins"),
    [
        ("*", ("*",)),
        ("https://a.example, HTTP://B.example:3000", ("https://a.example", "http://b.example:3000")),
        ("null", ("null",)),
        ("chrome-extension://abc", ("chrome-extension://abc",)),
    ],
)
def test_origins_are_what_browsers_send(given, origins):
    """Scheme, host and port."""
    assert config.load({"front.cors_origins": given})[0].front.cors_origins == origins


@pytest.mark.parametrize(
    "given", ["a.example", "https://a.example/", "https://u@a.example", "https://", "https://a b"]
)
def test_what_no_browser_sends_is_no_origin(given):
    """It would never be equal to one."""
    with pytest.raises(ConfigError, match="cors_origins"):
        config.load({"front.cors_origins": given})


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
        ("port = 70000\n", "port = 70000 in {file}; allowed: a whole number from 0 to 65535"),
        (
            "[engine]\nidle_sleep_s = inf\n",
            "engine.idle_sleep_s = inf in {file}; allowed: a finite number of 0 or more, or unset",
        ),
        (
            "[engine]\nplatform = 'cudda'\n",
            "engine.platform = 'cudda' in {file}; allowed: auto, cpu or cuda (did you mean cuda?)",
        ),
        ("[registry]\npoll_s = 0\n", "registry.poll_s = 0 in {file}; allowed: a finite number above 0"),
        ("engine = 'vllm'\n", "engine = 'vllm' in {file}; allowed: a table with the keys python, command,"),
        ("endpoints = 'ep_a'\n", "endpoints = 'ep_a' in {file}; allowed: a list of tables"),
        ("canary = 'perhaps'\n", "canary = 'perhaps' in {file}; allowed: on or off"),
        ("[front]\nhosts = [1]\n", "front.hosts.0 = 1 in {file}; allowed: a text"),
        ("[[endpoints]]\nalias = 'a'\n", "endpoints.0.task is missing in {file}; allowed: a text"),
        (
            "[[endpoints]]\ntask = 't'\nid = 'a/../b'\n",
            "endpoints.0.id = 'a/../b' in {file}; allowed: a text that matches ^ep_[a-z0-9_]{{1,60}}$, or unset",
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


def values(settings: config.Settings) -> dict[str, object]:
    """By dotted key, without the two that the environment of these tests sets."""
    flat: dict[str, object] = {}
    for key, value in settings:
        flat |= {f"{key}.{k}": v for k, v in value} if isinstance(value, config.Section) else {key: value}
    return flat


@pytest.mark.parametrize("layer", ["the environment", "the file", "the flags"])
@pytest.mark.parametrize(("key", "env", "default", "_"), config.setting_rows())
def test_every_printed_default_may_be_written_back(monkeypatch, tmp_path, layer, key, env, default, _):
    """What the table prints is a value that each layer takes, and it changes nothing."""
    expected, flags, text = values(config.load({})[0]), {}, ""
    if key == "home":
        monkeypatch.delenv("PARETA_HOME")
        expected["home"] = Path("~/.pareta").expanduser()
    if layer == "the environment":
        monkeypatch.setenv(env, default)
    elif layer == "the flags":
        flags[key] = default
    else:
        section, _, name = key.rpartition(".")
        text = (f"[{section}]\n" if section else "") + f'{name} = "{default}"\n'
    assert values(config.load(flags, toml(tmp_path, text))[0]) == expected


@pytest.mark.parametrize(("key", "env", "default", "_"), config.setting_rows())
def test_every_refused_value_names_its_layer_and_what_is_allowed(monkeypatch, key, env, default, _):
    """A text where none belongs: the message holds the name, the value, the layer, and the values that are taken."""
    monkeypatch.setenv(env, "@no/value@")
    said = ""
    try:
        config.load({})
    except ConfigError as error:
        said = error.message
    place: list[int | str] = [*key.split(".")]
    if allowed(place).startswith("words"):
        place.append(0)
    takes = allowed(place)
    if takes != "a text" and not takes.startswith(("a text, or unset", "a path")):
        name = ".".join(map(str, place))
        assert f"{name} = '@no/value@' in the environment ({env}); allowed: {takes}" in said
    else:
        assert said == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARETA_PORT", "tcp://10.0.0.1:8000"),
        ("PARETA_PORT", "udp://10.0.0.1:8000"),
        ("PARETA_SERVICE_HOST", "10.0.0.1"),
        ("PARETA_SERVICE_PORT", "8000"),
        ("PARETA_SERVICE_PORT_HTTP", "8000"),
        ("PARETA_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("PARETA_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("PARETA_PLANE_PORT", "tcp://10.0.0.1:8700"),
        ("PARETA_PLANE_SERVICE_HOST", "10.0.0.1"),
        ("PARETA_REGISTRY_PORT_80_TCP_PROTO", "tcp"),
        ("PARETA_ENGINE_METRICS_SERVICE_PORT_HTTP", "80"),
    ],
)
def test_kubernetes_links_to_a_service_are_no_settings(monkeypatch, name, value):
    """A Service called `pareta…` in the namespace sets them in every pod: they are named in one warning."""
    expected = config.load({})[0]
    monkeypatch.setenv(name, value)
    settings, warnings = config.load({})
    assert settings == expected
    assert [warning.startswith(f"{name}: Kubernetes service links") for warning in warnings] == [True]


def test_a_number_in_pareta_port_is_a_setting_still(monkeypatch):
    """Only an address is a link."""
    monkeypatch.setenv("PARETA_PORT", "9")
    assert config.load({})[0].port == 9


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
