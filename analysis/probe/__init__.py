"""Tables and plots of probes."""
