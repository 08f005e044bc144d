"""The port: free, taken, or not ours to take."""

import select
import socket
from contextlib import ExitStack

import pytest

from pareta_agent.errors import HostError
from pareta_agent.node.listeners import listen, url_host, widen


def test_port_zero_picks_a_free_port():
    """The kernel's choice is bound and listening."""
    with listen("127.0.0.1", 0)[0] as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=120):
            assert port > 0


def test_a_taken_port_says_how_to_find_another():
    """The error names the port and two ways on."""
    with listen("127.0.0.1", 0)[0] as sock:
        port = sock.getsockname()[1]
        with pytest.raises(HostError) as caught:
            listen("127.0.0.1", port)
    assert (caught.value.code, caught.value.exit_code) == ("port_taken", 4)
    assert str(port) in caught.value.message
    assert "--port 0" in caught.value.remedy


def test_several_listeners_share_a_port_with_nobody_else():
    """The kernel deals connections out among them, and another agent still finds the port taken."""
    socks = listen("127.0.0.1", 0, 3)
    try:
        port = socks[0].getsockname()[1]
        assert {sock.getsockname()[1] for sock in socks} == {port}
        for size in (1, 2):
            with pytest.raises(HostError) as caught:
                listen("127.0.0.1", port, size)
            assert caught.value.code == "port_taken"
    finally:
        for sock in socks:
            sock.close()


def test_a_port_is_widened_without_a_caller_lost():
    """Who waits goes on waiting, all queue where somebody listens, and what was added gets its part once it does."""
    port = listen("127.0.0.1", 0)
    address = port[0].getsockname()
    with ExitStack() as stack:
        calls = [stack.enter_context(socket.create_connection(address)) for _ in range(8)]
        first, second = [stack.enter_context(each) for each in widen(port, 2)]
        assert first is port[0]
        assert widen([first, second], 1) == [first, second]
        calls += [stack.enter_context(socket.create_connection(address)) for _ in range(8)]
        for _ in calls:
            assert select.select([first], [], [], 120)[0]
            stack.enter_context(first.accept()[0])
        second.listen()
        ready: list[socket.socket] = []
        while second not in ready:
            stack.enter_context(socket.create_connection(address))
            ready = select.select([first, second], [], [], 120)[0]
        with pytest.raises(HostError) as caught:
            listen("127.0.0.1", address[1])
        assert caught.value.code == "port_taken"


def test_an_address_that_is_not_ours_is_refused():
    """TEST-NET-1 is nobody's address."""
    with pytest.raises(HostError) as caught:
        listen("192.0.2.1", 0)
    assert caught.value.code == "port_refused"


@pytest.mark.parametrize(
    ("host", "shown"),
    [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("127.0.0.1", "127.0.0.1")],
)
def test_a_url_names_an_address_that_can_be_called(host, shown):
    """A wildcard is no destination."""
    assert url_host(host) == shown
