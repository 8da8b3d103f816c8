"""Load tests: the gateway beside nginx, on the same core, in the same run."""
