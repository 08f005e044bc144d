"""Load balancers as their users set them up: real programs before two nodes, probing `/readyz`, retrying nothing."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

PROBE_S = 0.2
HAPROXY = """
defaults
    mode http
    retries 0
    timeout connect 30s
    timeout client 120s
    timeout server 120s
frontend callers
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    option httpchk
    http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host node
    default-server check inter 200ms fall 2 rise 1
    server a 127.0.0.1:{a}
    server b 127.0.0.1:{b}
"""
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream nodes {{
        server 127.0.0.1:{a} max_fails=0{down};
        server 127.0.0.1:{b} max_fails=0;
        keepalive 16;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
            proxy_buffering off;
        }}
    }}
}}
"""


@contextmanager
def _program(*argv: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(120)


@contextmanager
def haproxy(folder: Path, port: int, a: int, b: int) -> Iterator[None]:
    config = folder / "haproxy.cfg"
    config.write_text(HAPROXY.format(port=port, a=a, b=b))
    with _program("haproxy", "-q", "-f", config):
        yield


@contextmanager
def nginx(folder: Path, port: int, a: int, b: int) -> Iterator[None]:
    """It has no active probes: a thread marks the first node down when that says so, and reloads."""
    config, over = folder / "nginx.conf", threading.Event()
    config.write_text(NGINX.format(folder=folder, port=port, a=a, b=b, down=""))
    with _program("nginx", "-e", f"{folder}/error.log", "-c", config) as process:

        def watch() -> None:
            while not over.wait(PROBE_S):
                if httpx.get(f"http://127.0.0.1:{a}/readyz", timeout=120).status_code == 503:
                    config.write_text(NGINX.format(folder=folder, port=port, a=a, b=b, down=" down"))
                    process.send_signal(signal.SIGHUP)
                    return

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
        finally:
            over.set()
            watching.join()


@contextmanager
def envoy(folder: Path, port: int, a: int, b: int) -> Iterator[None]:
    config = folder / "envoy.json"
    config.write_text(json.dumps(_envoy(port, a, b)))
    program = Path(sys.executable).with_name("envoy")
    with _program(
        program, "-c", config, "--log-level", "error", "--concurrency", "1", "--disable-hot-restart"
    ):
        yield


def _envoy(port: int, *nodes: int) -> dict[str, object]:
    route = {"match": {"prefix": "/"}, "route": {"cluster": "nodes", "timeout": "120s"}}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3."
        "HttpConnectionManager",
        "stat_prefix": "callers",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    probe = {
        "timeout": "30s",
        "interval": f"{PROBE_S}s",
        "no_traffic_interval": f"{PROBE_S}s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/readyz", "host": "node"},
    }
    cluster = {
        "name": "nodes",
        "type": "STATIC",
        "connect_timeout": "30s",
        "health_checks": [probe],
        "load_assignment": {
            "cluster_name": "nodes",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(each)}} for each in nodes]}],
        },
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {"name": "callers", "address": _address(port), "filter_chains": [{"filters": filters}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def installed(name: str) -> bool:
    return shutil.which(name) is not None or Path(sys.executable).with_name(name).exists()
