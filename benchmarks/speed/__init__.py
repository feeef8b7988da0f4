"""Speed: one core for the gateway, one for the load generator and the mock upstream, everything interleaved."""
