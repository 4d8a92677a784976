"""Is it well? Questions asked of running instances, and what the answers mean.

`verdict` is a pure machine for one run of one instance. A *startup* probe comes first and holds back the other
two until it passed; *readiness* decides whether traffic may come; *liveness* decides
whether the instance must be restarted. Without a readiness probe an instance is ready
as soon as its startup passed, or at once.

Before the first success a startup or readiness question is asked quickly, after 50 ms,
100, 200 and so on up to its interval, so that a deploy waits for the workload and not for
the interval. Those extra questions are free: a failure counts towards the threshold at most once
an interval, so a slow starter has `failure_threshold` intervals whatever the pace. The first
liveness question comes one interval after the start, since what has just begun cannot
hang yet.

`probes` asks (HTTP, TCP, a command inside the instance) and never raises: every way of
failing is an answer in words. `HealthDriver` keeps one task a watched allocation.
"""
