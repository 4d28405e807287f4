"""PostgreSQL around the relay: what is decided about logins, session state, prepared statements and the admin
console. Pure; the wire codec is `forebay_core.pgwire`.
"""
