"""What integration tests stand on: a test origin, the programs under test, raw clients, certificates."""
