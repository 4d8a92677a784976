"""The log, the state that it replicates, and the plans made from that state."""
