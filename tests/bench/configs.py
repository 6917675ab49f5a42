"""Configuration files of the proxies: each does what it can of a sidecar's work, at limits never reached.

A rate limit that is enforced, an access log that is written, keep-alive to the upstream, no buffering of
streams, no timeout on a route. What the sidecar does beyond that (reading the JSON, usage, metrics by model)
the others do not have.
"""

import json

NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 4096; }}
http {{
    access_log {folder}/nginx-access.log combined buffer=32k flush=1s;
    client_body_temp_path {folder}/nginx-body;
    proxy_temp_path {folder}/nginx-proxy;
    fastcgi_temp_path {folder}/nginx-fastcgi;
    uwsgi_temp_path {folder}/nginx-uwsgi;
    scgi_temp_path {folder}/nginx-scgi;
    limit_req_zone $binary_remote_addr zone=all:1m rate=1000000r/s;
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 256;
        keepalive_requests 100000000;  # the default of 1000 would measure reconnects
    }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 100000000;
        location = /readyz {{ return 200; }}
        location / {{
            limit_req zone=all burst=100000 nodelay;
            proxy_pass http://provider;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 60s;
        }}
    }}
}}
"""

SIDECAR = """\
listen: {{data: "127.0.0.1:{port}", admin: "127.0.0.1:{admin}", health: "127.0.0.1:{health}"}}
providers:
  bench:
    endpoints: [{{url: "http://127.0.0.1:{upstream}/v1"}}]
models:
  "*": {{provider: bench}}
telemetry: {{access_log: "{folder}/sidecar-access.log"}}
"""

_TYPE = "type.googleapis.com/envoy.extensions."
_ALWAYS = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
_LOG_FIELDS = {
    "start_time": "%START_TIME%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "duration_ms": "%DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "request_id": "%REQ(X-REQUEST-ID)%",
}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _envoy_filters() -> list[dict[str, object]]:
    limit = {
        "@type": _TYPE + "filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "bench",
        "token_bucket": {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"},
        "filter_enabled": _ALWAYS,
        "filter_enforced": _ALWAYS,
    }
    return [
        {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
        {
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": _TYPE + "filters.http.router.v3.Router"},
        },
    ]


def _envoy_listener(port: int, folder: str) -> dict[str, object]:
    log = {
        "@type": _TYPE + "access_loggers.file.v3.FileAccessLog",
        "path": f"{folder}/envoy-access.log",
        "log_format": {"json_format": _LOG_FIELDS},
    }
    retry = {"retry_on": "5xx", "num_retries": 2}
    route = {
        "match": {"prefix": "/"},
        "route": {"cluster": "provider", "timeout": "0s", "retry_policy": retry},
    }
    manager = {
        "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": log}],
        "http_filters": _envoy_filters(),
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {"name": "data", "address": _address(port), "filter_chains": [{"filters": [network]}]}


def _envoy_cluster(upstream: int) -> dict[str, object]:
    endpoint = {"endpoint": {"address": _address(upstream)}}
    return {
        "name": "provider",
        "type": "STATIC",
        "connect_timeout": "1s",
        "outlier_detection": {"consecutive_5xx": 5, "interval": "10s"},
        "load_assignment": {"cluster_name": "provider", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def envoy(port: int, admin: int, upstream: int, folder: str) -> str:
    """Envoy's bootstrap; JSON, which it reads as well as YAML."""
    resources = {"listeners": [_envoy_listener(port, folder)], "clusters": [_envoy_cluster(upstream)]}
    return json.dumps({"admin": {"address": _address(admin)}, "static_resources": resources}, indent=1)
