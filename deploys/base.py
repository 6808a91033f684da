"""The base system of every container, before any service: run by ``freehold up``, or alone:

pyinfra deploys/inventory.py --data client=lab --limit guests deploys/base.py
"""

from ipaddress import collapse_addresses
from pathlib import Path

from pyinfra import host
from pyinfra.operations import server

from freehold.catalog import versions
from freehold.catalog.services import CODENAMES
from freehold.layout.egress import PORT
from freehold.layout.placement import EGRESS
from freehold.pyinfra import driver
from freehold.pyinfra.facts import FIREWALL_APPLIED
from freehold.pyinfra.gpu_truth import Watch, no_watch
from freehold.pyinfra.system import (
    APT,
    Directory,
    Entry,
    File,
    Link,
    firewall,
    handlers,
    keep_reachable,
    manifest,
    no_own_archives,
    only_own_archives,
    packages,
    plain,
    section,
    system_users,
    tree,
    units,
)
from freehold.render import render

layout = host.data.layout
this = layout.host(host.data.freehold_host)
system = layout.system
mirror = layout.sources.mirror
authority = Path(layout.directory) / "ca.crt"
codename = CODENAMES[this.os]
compiled_locale = not system.locale.startswith(("C.", "POSIX"))

rules = [
    {
        "port": f"{rule.port}-{rule.last}" if rule.last else rule.port,
        "protocol": rule.protocol,
        "sources": list(collapse_addresses(rule.sources)),  # nftables refuses networks that overlap
        "comment": plain(rule.comment),
    }
    for rule in this.rules
    if rule.sources
]

outgoing = (
    None
    if this.outgoing is None
    else [
        {
            "port": f"{rule.port}-{rule.last}" if rule.last else rule.port,
            "protocol": rule.protocol,
            "destinations": list(collapse_addresses(rule.destinations)),
            "users": list(rule.users),
            "comment": plain(rule.comment),
        }
        for rule in this.outgoing
    ]
)
# Rules cannot name a user who is not there, and the service's package, which brings it, comes later.
own_users = {user for rule in this.outgoing or () for user in rule.users}

is_egress = any(service.role == EGRESS for service in layout.services if service.host == this.name)


def base(template: str, **variables: object) -> str:
    return render(f"base/{template}.j2", variables)


archives: list[Entry] = (
    [
        File(
            "/etc/apt/sources.list.d/freehold.sources",
            base("apt.sources", mirror=mirror, codename=codename),
            handler="archives",
        )
    ]
    if mirror
    else []
)

way_out: list[Entry] = []
if layout.egress:
    # Before any package: apt itself finds out whether this host is closed in already.
    way_out += [
        Directory("/usr/local/libexec"),
        File(
            driver.WAY_OUT,
            base("way-out.sh", address=layout.egress, port=PORT, closed=FIREWALL_APPLIED, here=is_egress),
            mode="755",
        ),
        File("/etc/apt/apt.conf.d/80freehold-way-out", base("apt-way-out.conf", program=driver.WAY_OUT)),
    ]
if is_egress:
    # Not with Debian's configuration, in which others would take it for theirs.
    way_out += [
        Directory("/etc/systemd/system/squid.service.d"),
        File("/etc/systemd/system/squid.service.d/configured.conf", base("squid-configured.conf")),
    ]

exporter: list[Entry] = (
    [
        Directory("/etc/prometheus/freehold", mode="750", group="prometheus"),
        File(
            "/etc/systemd/system/prometheus-node-exporter.service",
            base("node-exporter.service", address=str(this.address)),
            handler="exporter",
        ),
        # read anew at every request
        File(
            "/etc/prometheus/freehold/web.yml",
            base("node-exporter-web.yml", client=layout.client, hash=host.data.scrape_hash),
            mode="640",
            group="prometheus",
        ),
        # where scripts of this machine put figures of their own
        Directory("/var/lib/prometheus/node-exporter"),
    ]
    if layout.monitor
    else []
)

# whether the engine of this host computes on its GPU
watch = Watch.of_host(layout, this.name)

user_space = driver.of_data(host.data.get("user_space"))

needed = [
    "python3",  # Ansible's modules fail with python3-minimal
    "python3-apt",
    "ca-certificates",
    "nftables",
    "tzdata",
    "unattended-upgrades",
    *(["locales"] if compiled_locale else []),
    # the exporter asks systemd for the states of units over D-Bus
    *(["prometheus-node-exporter", "dbus"] if exporter else []),
    # the installer of NVIDIA's user space looks at the modules of the node
    *(["kmod"] if user_space else []),
    # its firewall is closed when its role comes, and its way out not yet open
    *(versions.load(Path(layout.directory))[EGRESS].packages if is_egress else []),
]

running = [
    "nftables.service",
    "ssh.service",
    *(["prometheus-node-exporter.service"] if exporter else []),
    *([watch.timer] if watch.wanted else []),
]

configuration: list[Entry] = [
    Directory("/etc/freehold", mode="700"),
    # who may log in
    Directory("/root/.ssh", mode="700"),
    File("/root/.ssh/authorized_keys", base("authorized_keys", keys=host.data.root_keys), mode="600"),
    File(
        "/etc/ssh/sshd_config.d/10-freehold.conf", base("sshd.conf"), handler="ssh", validate="sshd -t -f %s"
    ),
    # who may connect
    File(
        "/etc/nftables.conf",
        base("nftables.conf", rules=rules, outgoing=outgoing),
        validate="nft -c -f %s",
    ),
    # what it trusts
    *(
        [
            File(
                f"/usr/local/share/ca-certificates/freehold-{layout.client}.crt",
                authority.read_text(encoding="utf-8"),
                handler="certificates",
            )
        ]
        if authority.is_file()
        else []
    ),
    # how it keeps itself up to date
    File("/etc/apt/apt.conf.d/20auto-upgrades", base("apt-periodic.conf", upgrades=system.upgrades)),
    File("/etc/apt/apt.conf.d/52freehold-upgrades", base("apt-upgrades.conf")),
    # language, time, logs
    *(
        [File("/etc/locale.gen", base("locale.gen", locale=system.locale), handler="locale")]
        if compiled_locale
        else []
    ),
    File("/etc/default/locale", base("locale", locale=system.locale)),
    Link("/etc/localtime", f"/usr/share/zoneinfo/{system.timezone}"),
    File("/etc/timezone", f"{system.timezone}\n"),
    Directory("/etc/systemd/journald.conf.d"),
    File("/etc/systemd/journald.conf.d/10-freehold.conf", base("journald.conf"), handler="journald"),
    *exporter,
    *watch.entries(),
]

keep_reachable(
    name="The firewall lets this controller in",
    sources=[network for rule in this.rules if rule.port == 22 for network in rule.sources],
)
if way_out:
    tree(name="The way out", entries=way_out)
if archives:
    tree(name="Package archives", entries=archives)
    only_own_archives(name="No other package archives", handler="archives")
else:
    no_own_archives(name="Package archives of the template", handler="archives")
packages(name="Python, firewall, upgrades", names=needed)
system_users(name="Users of the services", names=sorted(own_users))
server.group(name="Group that owns passed GPUs", group="gpu", gid=2107)
tree(name="Configuration", entries=configuration)
if user_space:
    driver.user_space(name="User space of the node's NVIDIA driver", release=user_space, handler="gpu")
handlers(
    name="Apply what changed",
    commands={
        # what is in none of the new lists must not pass for something that can be installed
        "archives": f"{APT} update",
        "locale": "locale-gen >/dev/null",
        "certificates": "update-ca-certificates >/dev/null",
        "journald": "systemctl restart systemd-journald",
        "ssh": "systemctl reload ssh",
        "exporter": "systemctl daemon-reload && systemctl restart prometheus-node-exporter",
        **watch.handlers(),
        "gpu": driver.RESTART_SERVICES,
    },
)
if watch.engine and not watch.wanted:
    no_watch(name="No GPU truth test", unit=watch.timer, paths=watch.paths)
firewall(name="Firewall")
units(
    name="Units",
    running=running,
    # containers share the clock of the node, which keeps it right
    masked=["systemd-timesyncd.service"],
    enabled=["apt-daily.timer", "apt-daily-upgrade.timer"],
)
manifest(
    name="Manifest",
    section=section([*way_out, *archives, *configuration], running, needed),
)
