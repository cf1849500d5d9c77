"""One module for each kind of probe: `measure(probe, subject, prepared)` and, where inputs are shared, `prepare`."""
