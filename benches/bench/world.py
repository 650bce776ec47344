"""What the cases need: two engines with stores of their own, an image, a registry, files."""
import os
import random
import resource
import shlex
import shutil
import socket
import subprocess
import sys
import time

from .measure import run, succeeds

# Kills the registry when the bench ends, however it ends.
PDEATHSIG = ["setpriv", "--pdeathsig", "KILL"]


class Peer:
    """An engine with a store of its own, and the options that make its `run` and `build` work on this machine."""

    def __init__(self, name, argv):
        self.name, self.argv, self.run_options, self.build_options = name, argv, [], []

    def __call__(self, *arguments):
        return [*self.argv, *map(str, arguments)]

    def run(self, *arguments):
        return [*self.argv, "run", *self.run_options, "--rm", "--network=none", *map(str, arguments)]

    def create(self, *arguments):
        return [*self.argv, "create", *self.run_options, "--network=none", *map(str, arguments)]

    def build(self, context, *arguments):
        return [*self.argv, "build", "-q", *self.build_options, *arguments, "-t", context.name, str(context)]


class BuildKit(Peer):
    """BuildKit as dockerd has it, which only builds here. The daemon ends with this process."""

    def build(self, context, *arguments):
        known = [word for word in arguments if not str(word).startswith("--jobs")]
        return super().build(context, *known, "-f", str(context / "Containerfile"))


def buildkit(place):
    """`None` where Debian's dockerd is not installed or does not start."""
    docker = "/usr/bin/docker"
    if not (shutil.which("dockerd") and os.path.exists(docker)):
        return None
    home = place / "docker"
    home.mkdir()
    sock = f"unix://{home}/sock"
    # containerd's shims have their sockets in /run, wherever its own directories are; the key is made in /etc/docker.
    private = "mount -t tmpfs run /run && mkdir -p /etc/docker && mount -t tmpfs docker /etc/docker && exec \"$@\""
    daemon = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private",
              "sh", "-c", private, "sh", "dockerd", "--data-root", home / "data", "--exec-root", home / "exec",
              "--pidfile", home / "pid", "--host", sock, "--iptables=false", "--ip6tables=false", "--bridge=none",
              "--storage-driver=overlay2", "--exec-opt", "native.cgroupdriver=cgroupfs"]
    peer = BuildKit("buildkit", ["env", f"DOCKER_HOST={sock}", f"HOME={home}", "DOCKER_BUILDKIT=1", docker])
    peer.build_options = ["--network=none"]
    with open(home / "log", "wb") as log:
        peer.daemon = subprocess.Popen([*PDEATHSIG, *map(str, daemon)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
    for _ in range(200):
        if succeeds(peer("version")):
            return peer
        time.sleep(0.1)
    peer.daemon.kill()
    return None


def davit(path, place):
    peer = Peer("davit", [path, "--root", str(place / "dr"), "--runroot", str(place / "dx")])
    peer.build_options = ["--network=none"]
    return peer


def podman(path, place):
    return Peer("podman", [path, "--root", str(place / "pr"), "--runroot", str(place / "px"), "--tmpdir",
                           str(place / "pt"), "--cgroup-manager=cgroupfs", "--events-backend=file",
                           "--storage-driver=overlay"])


def suit(podman, place):
    """Finds what podman needs to run and build here, its own choice first."""
    if not succeeds(podman.run("busybox", "true")):
        # Its defaults are above what a confined root may ask for.
        limit = min(16384, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        podman.run_options = [f"--ulimit={name}={limit}:{limit}" for name in ("nofile", "nproc")]
    if not succeeds(podman.run("busybox", "true")):
        # crun refuses control groups of both versions at once. This is our own mount namespace: others keep theirs.
        subprocess.run(["umount", "-l", "/sys/fs/cgroup/unified"], check=False)
    run(podman.run("busybox", "true"))
    context = containerfile(place / "probe", "FROM localhost/busybox", "RUN true")
    for podman.build_options in (["--network=none"], ["--isolation=chroot"]):
        if succeeds(podman.build(context)):
            return
    sys.exit("podman builds nothing here:\n" + shlex.join(podman.build(context)))


def registry(directory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = directory / "registry.yml"
    config.write_text(f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
                      f"storage: {{filesystem: {{rootdirectory: {directory}/registry}}}}\nhttp: {{addr: 127.0.0.1:{port}}}\n")
    server = subprocess.Popen([*PDEATHSIG, "docker-registry", "serve", config], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return server, f"127.0.0.1:{port}"
        except OSError:
            time.sleep(0.05)
    sys.exit("the registry does not start")


def busybox_tar(directory):
    root = directory / "rootfs"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    source = shutil.which("busybox") or "/bin/busybox"
    shutil.copy(source, root / "bin/busybox")
    for applet in run([source, "--list"]).splitlines():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    tar = directory / "busybox.tar"
    run(["tar", "-C", root, "-cf", tar, "."])
    return tar


def compressible(path, size, seed):
    """About half of it compresses, as programs and libraries do."""
    generator = random.Random(seed)
    with open(path, "wb") as file:
        written = 0
        while written < size:
            block = generator.randbytes(32768)
            text = (b"%d of a text that repeats itself; " % generator.randrange(1000)) * 1100
            file.write(block + text[:32768])
            written += 65536


def many_files(directory, count, size):
    """`count` files of `size` bytes, 100 a directory."""
    generator = random.Random(count)
    for number in range(count):
        if number % 100 == 0:
            folder = directory / f"d{number // 100}"
            folder.mkdir(parents=True)
        (folder / f"f{number}").write_bytes(generator.randbytes(size))


def containerfile(context, *lines):
    context.mkdir(exist_ok=True)
    (context / "Containerfile").write_text("\n".join(lines) + "\n")
    return context


def settle():
    """What was written before must not be part of what is measured next."""
    os.sync()
