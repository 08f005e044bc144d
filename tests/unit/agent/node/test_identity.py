"""Who the node is, and the directories that are its own."""

import pytest

from pareta_agent import config
from pareta_agent.errors import HostError
from pareta_agent.node.identity import identify, prepare


def test_an_id_is_made_once_and_kept(tmp_path):
    """The second start is the same node; a name that was given wins."""
    prepare(tmp_path)
    first = identify(tmp_path, None)
    assert first.node.startswith("node-")
    assert identify(tmp_path, None) == first
    assert identify(tmp_path, "rack-7").node == "rack-7"


def test_the_directories_are_for_their_owner_only(tmp_path):
    """Sockets and records are nobody else's business."""
    home = tmp_path / "home"
    prepare(home)
    assert home.stat().st_mode & 0o077 == 0
    assert config.run_dir(home).stat().st_mode & 0o077 == 0


def test_a_socket_directory_that_others_may_enter_is_refused(tmp_path):
    """Somebody may have made it first."""
    home = tmp_path / "home"
    prepare(home)
    config.run_dir(home).chmod(0o777)
    with pytest.raises(HostError) as caught:
        prepare(home)
    assert caught.value.code == "run_dir_not_ours"
