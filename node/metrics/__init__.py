"""What the parts of a node have counted, in the text format of Prometheus.

Nothing is counted here, and nothing twice: each part keeps its own counters, and a scrape reads them. *snapshot* takes
what is true at one moment, in turns with the rest of the node, so that a thousand services do not hold it up;
*exposition* writes it down, in a thread. Names and units follow Prometheus' rules: seconds and bytes, `_total` for what
only grows, labels for what one would sum over.
"""
