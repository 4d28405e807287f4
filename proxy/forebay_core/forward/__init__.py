"""The forward proxy's decisions: where a request wants to go, whether it may, how fast, and by which parent."""
