"""The autoscaler's pure core: readings in, verdict out. Start at `forebay_core.scale.verdict.decide`."""
