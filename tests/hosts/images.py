# Copyright (c) 2026 The gpufleet.ollama developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images for test hosts, made from the distribution's packages, so that no image registry is needed.

Variables that change them: GPUFLEET_HOSTS_MIRROR (a package mirror; default: the one this machine's apt
uses), GPUFLEET_HOSTS_IMAGE (an image name to pull and use for every suite instead; it must boot systemd and
have python3 and an ssh server).
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path

import engine

REPOSITORY = "localhost/gpufleet-host"
# What a host of a real fleet has, and no more: libpam-systemd and dbus-user-session are for user units.
PACKAGES = "systemd,systemd-sysv,dbus,libpam-systemd,dbus-user-session,python3,openssh-server,iproute2,procps"
OPTIONS = [
    "--variant=minbase",
    f"--include={PACKAGES}",
    "--aptopt=APT::Install-Recommends false",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
]
# Suites that are no longer, or not yet, released: their mirrors let the signatures of the lists run out.
EXPIRING_SUITES = ("bullseye", "forky", "sid")
DEFAULT_SUITES = {"debian": ("bookworm", "trixie")}


def default_suites() -> tuple[str, ...]:
    """Debian 12 and 13 on Debian; the machine's own release elsewhere."""
    release = platform.freedesktop_os_release()
    return DEFAULT_SUITES.get(release.get("ID", ""), (release.get("VERSION_CODENAME", ""),))


def ensure(suites: Iterable[str]) -> dict[str, str]:
    """Make the images that are not cached yet; return suite -> image name."""
    named = os.environ.get("GPUFLEET_HOSTS_IMAGE")
    names = {suite: named or image_name(suite) for suite in suites}
    present = _present()
    missing = sorted({name: suite for suite, name in names.items() if name not in present}.items())
    if not missing:
        return names
    if named:
        _pull(named)
        return names
    engine.require("mmdebstrap")
    mirror = os.environ.get("GPUFLEET_HOSTS_MIRROR") or machine_mirror()
    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        list(pool.map(lambda pair: _build(pair[1], pair[0], mirror), missing))
    return names


def image_name(suite: str) -> str:
    """The suite and a hash of the recipe, so that a changed recipe makes a new image.

    A suite may name packages that its hosts have besides, as in `bookworm+haproxy,nginx-light`.
    """
    recipe = "\n".join([suite, platform.machine(), *OPTIONS])
    release, _plus, packages = suite.partition("+")
    kind = f"{packages.replace(',', '_')}-{release}" if packages else release
    return f"{REPOSITORY}:{kind}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def remove_all() -> None:
    engine.run(["rm", "-rf", "--one-file-system", str(engine.CACHE)])


def _present() -> set[str]:
    return set(engine.podman("images", "--format", "{{.Repository}}:{{.Tag}}", store="images").split())


def _pull(name: str) -> None:
    engine.say(f"Pulling the image {name}")
    engine.podman("pull", "--quiet", name, store="images")


def _build(suite: str, name: str, mirror: str) -> None:
    engine.say(f"Making the image of {suite} from {mirror} (about a minute)")
    # mmdebstrap installs a whole system under TMPDIR: five times faster in memory.
    work = str(engine.TMPFS) if engine.tmpfs_has_room() else tempfile.gettempdir()
    with tempfile.TemporaryDirectory(dir=work, prefix="gpufleet-image-") as folder:
        archive = str(Path(folder, "image.tar"))
        Path(folder).chmod(0o755)
        release, _plus, packages = suite.partition("+")
        more = [f"--include={packages}"] if packages else []
        engine.run(
            ["mmdebstrap", "--quiet", *OPTIONS, *more, *_apt_options(release), release, archive, mirror],
            env={**os.environ, "TMPDIR": folder},
        )
        engine.podman(
            "import",
            "--quiet",
            '--change=CMD ["/sbin/init"]',
            "--change=STOPSIGNAL SIGRTMIN+3",
            archive,
            name,
            store="images",
        )
    _remove_older(name)


def _remove_older(name: str) -> None:
    kind = name.rpartition("-")[0]
    older = [image for image in _present() if image.rpartition("-")[0] == kind and image != name]
    for image in older:
        engine.podman("rmi", "--force", image, store="images")


def _apt_options(suite: str) -> list[str]:
    options = [f'Acquire::Check-Valid-Until "{"false" if suite in EXPIRING_SUITES else "true"}"']
    # The machine's way to its mirror (proxy, certificates) is the image's way too.
    for line in engine.run(["apt-config", "dump"]).splitlines():
        if line.startswith(("Acquire::http::", "Acquire::https::")) and '""' not in line:
            options.append(line.rstrip(";"))
    return [f"--aptopt={option}" for option in options]


def machine_mirror() -> str:
    """The mirror this machine's own apt takes its distribution from."""
    wanted = {"debian": "Debian", "ubuntu": "Ubuntu"}.get(platform.freedesktop_os_release().get("ID", ""))
    command = [
        "apt-get",
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]
    for attempt in range(2):
        for line in engine.run(command).splitlines():
            origin, label, component, uri = line.split("|", 3)
            if origin == label == wanted and component == "main":
                return uri
        if attempt == 0:
            # Origins are known only once the lists have been fetched.
            engine.run([*engine.APT_GET, "update"])
    raise engine.HostsError(
        "apt names no mirror of this distribution: "
        "set GPUFLEET_HOSTS_MIRROR to one, or GPUFLEET_HOSTS_IMAGE to an image"
    )
