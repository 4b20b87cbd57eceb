"""From a configuration to a checked run, all faults at once, no device."""
