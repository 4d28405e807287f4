"""The peers' configurations: what their manuals recommend for a reverse proxy with kept connections.

All alike: one worker, as many kept connections to the backend as we have, no access log (ours is off by default), the
client's address in X-Forwarded-For (as we set it), TCP_NODELAY. Blanks are filled in by bench.peers.
"""

# 1 KiB, and ten fields: five of nginx (Server, Date, Content-Type, Content-Length, Connection), five here.
BACKEND_SERVER = """\
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    default_type application/json;
    open_file_cache max=10 inactive=1h;
    open_file_cache_valid 1h;
    sendfile on;
    location = /connections { stub_status; }
    location = /16k { root FILES; }
    location = /64k { root FILES; }
    location / {
      add_header Cache-Control "private, max-age=0, must-revalidate";
      add_header ETag '"5d8c72a5edda8d6a"';
      add_header Vary "Accept-Encoding, Origin";
      add_header X-Request-Id "7b1c3f5e9d2a4c68b0e1f2a3c4d5e6f7";
      add_header X-Content-Type-Options "nosniff";
      return 200 "%s";
    }
""" % ("0123456789abcdef" * 64)

NGINX_TLS = """\
    ssl_certificate {cert};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:SSL:10m;
"""

NGINX_HTTP = """\
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 1h;
  client_body_buffer_size 64k;
  proxy_buffers 16 8k;
  map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
  upstream backend {{
    server 127.0.0.1:{backend};
    keepalive {connections};
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
"""

NGINX_SERVER = """\
{tls}
    location / {{
      proxy_pass {scheme}://backend;
      proxy_http_version 1.1;
{more}
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
"""
NGINX_KEEPS = '      proxy_set_header Connection "";'
NGINX_UPGRADES = "      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;"
NGINX_VERIFIES = "      proxy_ssl_verify on; proxy_ssl_trusted_certificate {ca}; proxy_ssl_name localhost;"

NGINX_STREAM = """\
load_module modules/ngx_stream_module.so;
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr warn;
{user}
events {{ worker_connections 8192; }}
stream {{
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    tcp_nodelay on;
    proxy_timeout 1h;
    proxy_pass 127.0.0.1:{backend};
  }}
}}
"""

HAPROXY = """\
global
  nbthread {workers}
  maxconn 8192
  tune.pool-low-fd-ratio 80
  tune.pool-high-fd-ratio 90
  {tls_global}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  timeout queue 5s
  timeout http-request 10s
  timeout http-keep-alive 1h
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend front
  bind fd@{fd}{tls}
  http-request set-header X-Forwarded-Proto {scheme}
  default_backend back
backend back
  server backend 127.0.0.1:{backend} pool-purge-delay 1h{server}
"""

HAPROXY_RELAY = """\
global
  nbthread 1
  maxconn 8192
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
frontend front
  bind 127.0.0.1:{port}
  default_backend back
backend back
  server backend 127.0.0.1:{backend}
"""

ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
{filter}
{tls}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 3s
    circuit_breakers:
      thresholds: [{{max_connections: {most}, max_pending_requests: 8192, max_requests: 8192}}]
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
{backend_tls}
"""

ENVOY_HTTP = """\
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: HTTP1
          use_remote_address: true
{upgrades}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /}}
                route: {{cluster: backend, timeout: 60s}}
"""
ENVOY_UPGRADES = "          upgrade_configs: [{upgrade_type: websocket}]"

ENVOY_TCP = """\
      - name: envoy.filters.network.tcp_proxy
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: front
          cluster: backend
"""

ENVOY_TLS = """\
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{filename: {cert}}}
              private_key: {{filename: {key}}}
"""

ENVOY_BACKEND_TLS = """\
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        sni: localhost
        common_tls_context:
          validation_context: {{trusted_ca: {{filename: {ca}}}}}
"""

TRAEFIK = """\
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
entryPoints:
  front: {{address: "127.0.0.1:{port}", transport: {{respondingTimeouts: {{idleTimeout: 1h}}}}}}
serversTransport: {{maxIdleConnsPerHost: {connections}, rootCAs: [{ca}]}}
providers:
  file: {{filename: {dynamic}}}
"""

TRAEFIK_HTTP = """\
http:
  routers:
    all: {{rule: "PathPrefix(`/`)", service: backend, entryPoints: [front]{tls}}}
  services:
    backend: {{loadBalancer: {{servers: [{{url: "{scheme}://127.0.0.1:{backend}"}}]}}}}
"""
TRAEFIK_CERTIFICATES = "tls: {{certificates: [{{certFile: {cert}, keyFile: {key}}}]}}\n"

TRAEFIK_TCP = """\
tcp:
  routers:
    all: {{rule: "HostSNI(`*`)", service: backend, entryPoints: [front]}}
  services:
    backend: {{loadBalancer: {{servers: [{{address: "127.0.0.1:{backend}"}}]}}}}
"""

CADDY = """\
{{
  admin off
  auto_https off
  persist_config off
  log {{
    level ERROR
  }}
  servers {{
    protocols h1
    timeouts {{
      idle 1h
    }}
  }}
}}
{scheme}://:{port} {{
  bind 127.0.0.1
  {tls}
  reverse_proxy {backend_scheme}://127.0.0.1:{backend} {{
    transport http {{
      keepalive 1h
      keepalive_idle_conns_per_host {connections}
      {ca}
    }}
  }}
}}
"""

PGBOUNCER = """\
[databases]
* = host=127.0.0.1 port={backend}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 10000
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
{more}
"""

# Forward proxies: nothing is cached or logged, all are allowed, connections are kept where they can be.
SQUID = """\
http_port 127.0.0.1:{port}
workers 1
cache deny all
cache_mem 0 MB
access_log none
cache_log /dev/null
cache_store_log none
pid_filename none
http_access allow all
shutdown_lifetime 0 seconds
pinger_enable off
coredump_dir {directory}
max_filedescriptors 8192
"""

TINYPROXY = """\
Port {port}
Listen 127.0.0.1
Timeout 600
MaxClients 500
LogLevel Critical
"""
