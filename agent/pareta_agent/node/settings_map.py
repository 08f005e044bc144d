"""Settings map: converts the node's settings into the settings of each package."""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

from pareta_agent import config
from pareta_agent.catalog.location import CatalogLocation, catalog_state
from pareta_agent.config import Settings
from pareta_agent.control.reconcile import Wanted
from pareta_agent.engine.spec import EngineSettings, RestartSettings
from pareta_agent.errors import ConfigError
from pareta_agent.gateway.downstream.tls import Certificate
from pareta_agent.gateway.settings import GatewaySettings
from pareta_agent.meter.spool import SpoolSettings
from pareta_agent.planning.request import PlanRequest, for_resolution
from pareta_agent.weights.settings import WeightsSettings
from pareta_registry.errors import TrustError
from pareta_registry.resolve import Resolution
from pareta_registry.signing.keys import PublicKey, read_public
from pareta_registry.stores import StoreSettings


def front_settings(settings: Settings) -> GatewaySettings:
    return GatewaySettings(
        workers=settings.front.workers,
        max_body_bytes=settings.front.max_body_bytes,
        max_media_body_bytes=settings.front.max_media_body_bytes,
        max_connections=settings.front.max_connections,
        max_connections_per_address=settings.front.max_connections_per_address,
        max_in_flight_per_key=settings.front.max_requests_per_key,
        in_flight_per_seat=settings.front.max_requests_per_seat,
        hosts=settings.front.hosts,
        cors_origins=settings.front.cors_origins,
        idempotency_ttl_s=settings.front.idempotency_ttl_s,
        idempotency_bytes=settings.front.idempotency_bytes,
        request_timeout_s=settings.front.request_timeout_s,
        hold_s=settings.front.hold_s,
        queue_per_endpoint=settings.front.queue_per_endpoint,
        queue_per_org=settings.front.queue_per_org,
    )


def certificate(settings: Settings) -> Certificate | None:
    """The port's certificate, None for plain HTTP. Raises ConfigError for a key without a certificate."""
    cert, key = settings.front.tls_cert_file, settings.front.tls_key_file
    if cert is None and key is not None:
        raise ConfigError("tls_invalid", "there is a TLS key and no certificate", "set `front.tls_cert_file`")
    return Certificate(cert, key or cert) if cert is not None else None


def spool_settings(settings: Settings, node: str) -> SpoolSettings:
    return SpoolSettings(node=node, max_bytes=settings.spool.max_bytes)


def weights_settings(settings: Settings) -> WeightsSettings:
    return WeightsSettings(
        settings.home / "weights",
        settings.cache / "artifacts",
        stores=_stores(settings),
        trusted=_keys(settings.registry.artifact_keys),
    )


def catalog_place(settings: Settings) -> CatalogLocation:
    there = settings.registry
    place = CatalogLocation(
        where=there.catalog,
        state_dir=catalog_state(settings.home),
        channel=there.channel,
        keys=_keys(there.catalog_keys),
        stores=_stores(settings),
        poll_s=there.poll_s,
    )
    if place.keys and not place.is_published:
        raise ConfigError(
            "catalog_unsigned",
            "registry.catalog_keys is set, and only a published catalog carries signatures",
            "name the catalog's published address in registry.catalog, or unset registry.catalog_keys",
        )
    return place


def _stores(settings: Settings) -> StoreSettings:
    there = settings.registry
    return StoreSettings(
        docker_config=there.docker_config,
        ca_file=there.ca_file,
        hf_endpoint=there.hf_endpoint,
        hf_token_file=there.hf_token_file,
        object_store_file=there.object_store_file,
    )


def _keys(path: Path | None) -> tuple[PublicKey, ...]:
    try:
        return read_public(path) if path else ()
    except TrustError as error:
        raise ConfigError(error.code, error.message, error.remedy) from None


def engine_settings(settings: Settings, version: str) -> EngineSettings:
    home = settings.home
    return EngineSettings(
        home_id=hashlib.sha256(str(home).encode()).hexdigest()[:12],
        run_dir=config.run_dir(home),
        state_dir=home / "engines",
        log_dir=home / "log",
        cache_dir=home / "engine-cache",
        version=version,
        command=tuple(shlex.split(settings.engine.command)) if settings.engine.command else None,
        canary=settings.canary,
        drain_s=settings.drain_timeout_s,
        threads=settings.engine.threads,
        standby=settings.engine.standby,
        log_max_bytes=settings.engine.log_max_bytes,
        restart=RestartSettings(budget=settings.engine.restart_budget),
    )


def plan_request(settings: Settings, version: str, resolution: Resolution, wanted: Wanted) -> PlanRequest:
    """The plan request of an endpoint for an engine of this version."""
    objective = wanted.objective or settings.objective
    request = for_resolution(resolution, objective=objective, replicas=wanted.replicas)
    return replace(request, max_model_len=settings.max_model_len, engine_version=version)
