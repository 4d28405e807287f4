"""The ProxyPool document: one model for `pool.yaml`, the custom resource's schema and the reference."""
