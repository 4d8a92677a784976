"""Which keys of the Compose specification Orca knows, ignores or refuses, and why."""

from typing import Final

FILE_KEYS: Final = ("name", "version", "services", "networks", "volumes", "configs", "secrets")
FILE_REFUSED: Final = {
    "include": "give the included files to Orca one by one",
    "models": "run the model as a service",
}
SERVICE_KEYS: Final = (
    *("image", "build", "command", "entrypoint", "environment", "env_file", "ports", "expose", "volumes", "tmpfs"),
    *("networks", "depends_on", "healthcheck", "deploy", "restart", "labels", "secrets", "configs", "profiles"),
    *("user", "working_dir", "hostname", "init", "privileged", "read_only", "cap_add", "cap_drop", "ulimits"),
    *("shm_size", "extra_hosts", "stop_grace_period", "stop_signal", "logging", "mem_limit", "cpus", "pids_limit"),
    *("scale", "pull_policy", "links"),
)
SERVICE_IGNORED: Final = {
    "container_name": "containers are named by Orca; reach the service by its name",
    "tty": "no terminal is attached; `orca exec -it` gives one",
    "stdin_open": "no input is attached; `orca exec -i` gives one",
    "attach": "it only concerns the output of `docker compose up`",
    "annotations": "annotations change nothing in how the service runs",
    "develop": "it only concerns development on one's own computer",
    "platform": "each node runs the variant for its own architecture",
    "mem_reservation": "memory is not reserved; set a limit",
    "cpu_shares": "shares are not set; set cpus as a limit",
    "oom_score_adj": "the kernel's own choice is kept",
}
SERVICE_REFUSED: Final = {
    "network_mode": "services reach each other by name in their project's network",
    "volumes_from": "name the volumes in both services",
    "extends": "write the keys out, or use a YAML anchor",
    "devices": "",
    "device_cgroup_rules": "",
    "gpus": "",
    "dns": "names are answered by the project's network",
    "dns_search": "names are answered by the project's network",
    "dns_opt": "names are answered by the project's network",
    "domainname": "set hostname",
    "external_links": "put both services in one project",
    "mac_address": "",
    "pid": "",
    "ipc": "",
    "uts": "",
    "userns_mode": "",
    "cgroup": "",
    "cgroup_parent": "",
    "group_add": "",
    "security_opt": "",
    "sysctls": "",
    "isolation": "",
    "runtime": "",
    "credential_spec": "",
    "blkio_config": "",
    "cpu_count": "set cpus",
    "cpu_percent": "set cpus",
    "cpu_period": "set cpus",
    "cpu_quota": "set cpus",
    "cpu_rt_runtime": "set cpus",
    "cpu_rt_period": "set cpus",
    "cpuset": "set cpus",
    "memswap_limit": "set mem_limit",
    "mem_swappiness": "set mem_limit",
    "oom_kill_disable": "",
    "storage_opt": "",
    "label_file": "write the labels out",
    "post_start": "",
    "pre_stop": "",
    "provider": "",
    "models": "run the model as a service",
    "use_api_socket": "",
}
BUILD_KEYS: Final = ("context", "dockerfile", "args", "target")
BUILD_IGNORED: Final = dict.fromkeys(
    ("cache_from", "cache_to", "labels", "tags", "pull", "no_cache", "platforms", "shm_size", "provenance", "sbom"),
    "it does not change what is built",
)
BUILD_REFUSED: Final = {
    "dockerfile_inline": "put the Dockerfile into a file",
    "additional_contexts": "",
    "ssh": "",
    "secrets": "",
    "privileged": "",
    "network": "",
    "extra_hosts": "",
    "isolation": "",
    "entitlements": "",
    "ulimits": "",
}
DEPLOY_KEYS: Final = ("mode", "replicas", "resources", "update_config", "placement", "restart_policy", "labels")
DEPLOY_IGNORED: Final = {
    "endpoint_mode": "the proxy and the project's names balance the copies",
    "rollback_config": "a failed update stops where it is and the old copies keep serving",
}
UPDATE_KEYS: Final = ("parallelism", "delay", "order", "failure_action")
UPDATE_IGNORED: Final = {
    "monitor": "a copy counts once its probes say that it is ready",
    "max_failure_ratio": "one failed copy stops the update",
}
NETWORK_IGNORED: Final = dict.fromkeys(
    ("driver", "driver_opts", "name", "attachable", "ipam", "labels", "enable_ipv6", "enable_ipv4"),
    "networks of a project are made by Orca",
)
NETWORK_REFUSED: Final = {
    "external": "put services that must reach each other in one project",
    "internal": "",
}
ATTACHMENT_IGNORED: Final = dict.fromkeys(
    ("priority", "gw_priority", "interface_name"), "Orca attaches networks in the order of the file"
)
ATTACHMENT_REFUSED: Final = dict.fromkeys(
    ("ipv4_address", "ipv6_address", "link_local_ips", "mac_address", "driver_opts"), "addresses are given by Orca"
)
VOLUME_REFUSED: Final = {
    "external": "Orca makes a volume when it is first used; leave `external` out",
    "driver_opts": "mount the directory of the node with a bind instead",
}
