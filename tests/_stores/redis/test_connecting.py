"""From URLs to clients of the driver: which is made, with which timeouts, and what is refused."""

from __future__ import annotations

import ssl

import pytest
from redis import Redis
from redis.sentinel import SentinelConnectionPool

from qanat._stores.redis.connecting import CONNECT, TIMEOUT, connect
from qanat.errors import StoreUnavailable


def settings_of(url):
    client, _ = connect(url)
    assert isinstance(client, Redis)
    with client:
        return client.connection_pool.connection_kwargs


def test_a_plain_url_has_timeouts_and_no_retries_of_the_driver():
    settings = settings_of("redis://user:pw@example.org:7000/3")
    assert (settings["host"], settings["port"], settings["db"]) == ("example.org", 7000, 3)
    assert [settings[name] for name in ("username", "password")] == ["user", "pw"]
    assert (settings["socket_timeout"], settings["socket_connect_timeout"]) == (TIMEOUT, CONNECT)
    assert settings["socket_keepalive"]
    assert settings["health_check_interval"] > 0
    assert settings["retry"].get_retries() == 0


def test_tls_checks_certificate_and_name():
    settings = settings_of("rediss://example.org?ca=/etc/ssl/ca.pem")
    assert settings["ssl_cert_reqs"] == "required"
    assert settings["ssl_check_hostname"] is True
    assert settings["ssl_min_version"] == ssl.TLSVersion.TLSv1_2
    assert settings["ssl_ca_certs"] == "/etc/ssl/ca.pem"


def test_a_socket_is_named_by_its_path():
    assert settings_of("unix:///run/redis.sock?db=2")["path"] == "/run/redis.sock"


def test_sentinels_have_a_login_of_their_own():
    client, options = connect(
        "redis+sentinel://:pw@a:1,b:2/mymaster?sentinel_user=s&sentinel_password=t&prefix=p"
    )
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.service_name == "mymaster"
    logins = (pool.connection_kwargs["password"], pool.sentinel_manager.sentinel_kwargs["password"])
    assert logins == ("pw", "t")
    assert options.prefix == "p"
    client.close()


def test_a_cluster_that_is_not_there_is_unavailable():
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        connect("redis+cluster://127.0.0.1:1")


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("redis://h?speed=9", "unknown option 'speed'"),
        ("redis://h?timeout=soon", "timeout must be seconds"),
        ("redis://h?timeout=-1", "timeout must be seconds"),
        ("redis://h?timeout=1&wait=2", "wait must be less than timeout"),
        ("redis://h?ca=/x", "use rediss"),
        ("redis://h?sentinel_password=x", r"use redis\+sentinel"),
        ("sqlite:///x.db", "must name a Redis or Valkey server"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused(url, match):
    with pytest.raises(ValueError, match=match):
        connect(url)
