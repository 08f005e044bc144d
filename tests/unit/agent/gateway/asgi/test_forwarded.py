"""Where a caller reached the load balancer before this node."""

import pytest

from pareta_agent.gateway.asgi.forwarded import reached
from pareta_agent.gateway.downstream.host_allowlist import Hosts

OWN = {"host": "10.0.0.7:8000"}


@pytest.mark.parametrize(
    ("headers", "scheme", "origin"),
    [
        ({}, "http", ("http", "10.0.0.7:8000")),
        ({}, "https", ("https", "10.0.0.7:8000")),
        ({"x-forwarded-proto": "https"}, "http", ("https", "10.0.0.7:8000")),
        ({"x-forwarded-proto": "HTTPS, http"}, "http", ("https", "10.0.0.7:8000")),
        ({"x-forwarded-proto": "http"}, "https", ("http", "10.0.0.7:8000")),
        ({"x-forwarded-proto": "javascript"}, "http", ("http", "10.0.0.7:8000")),
        ({"x-forwarded-proto": ""}, "https", ("https", "10.0.0.7:8000")),
        ({"x-forwarded-host": "api.example.com, inner"}, "http", ("http", "api.example.com")),
        ({"x-forwarded-host": "a/b"}, "http", ("http", "10.0.0.7:8000")),
        ({"x-forwarded-host": "evil.test"}, "http", ("http", "10.0.0.7:8000")),
        ({"x-forwarded-host": "[2001:db8::1]:443"}, "http", ("http", "[2001:db8::1]:443")),
    ],
)
def test_the_address_is_the_callers_where_it_is_well_formed(headers, scheme, origin):
    """The outermost proxy's word; a host that this node does not answer to is no address of it."""
    assert reached({**OWN, **headers}, scheme, Hosts(("api.example.com",))) == origin


def test_without_a_host_there_is_none():
    """HTTP/1.0: an answer then has no `url`."""
    assert reached({}, "http", Hosts(())) == ("http", "")
