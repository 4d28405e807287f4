"""The peers' configurations: what their manuals recommend for a reverse proxy with kept connections.

All alike: one worker, 64 kept connections to the backend, no access log (ours is off by default), the client's
address in X-Forwarded-For (as we set it), TCP_NODELAY. `{tls}` is empty, or switches TLS on for the clients.
"""

# 1 KiB, and ten fields: five of nginx (Server, Date, Content-Type, Content-Length, Connection), five here.
BACKEND_SERVER = """\
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    default_type application/json;
    location = /connections { stub_status; }
    location / {
      add_header Cache-Control "private, max-age=0, must-revalidate";
      add_header ETag '"5d8c72a5edda8d6a"';
      add_header Vary "Accept-Encoding, Origin";
      add_header X-Request-Id "7b1c3f5e9d2a4c68b0e1f2a3c4d5e6f7";
      add_header X-Content-Type-Options "nosniff";
      return 200 "%s";
    }
""" % ("0123456789abcdef" * 64)

NGINX_HTTP = """\
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 1h;
  upstream backend {{
    server 127.0.0.1:{backend};
    keepalive 64;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }}
"""

NGINX_SERVER = """\
    {tls}
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
"""

HAPROXY = """\
global
  nbthread 1
  maxconn 8192
  {tls_global}
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout http-request 10s
  timeout http-keep-alive 1h
  option http-keep-alive
  option forwardfor
  http-reuse always
frontend front
  bind fd@{fd}{tls}
  http-request set-header X-Forwarded-Proto http
  default_backend back
backend back
  server backend 127.0.0.1:{backend} pool-purge-delay 1h
"""

ENVOY = """\
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: HTTP1
          use_remote_address: true
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
{tls}
  clusters:
  - name: backend
    type: STATIC
    connect_timeout: 3s
    load_assignment:
      cluster_name: backend
      endpoints:
      - lb_endpoints:
        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {backend}}}}}}}
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
