"""One command: how long it takes, what it burns, how large it grows."""
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def finish(pid):
    """Ends a command that is no longer wanted, with all that it started."""
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def run(argv, check=True):
    """Runs a command that is not measured."""
    argv = [str(word) for word in argv]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(argv, start_new_session=True, **pipes) as child:
        try:
            output, errors = child.communicate()
        except BaseException:
            finish(child.pid)
            raise
    if check and child.returncode != 0:
        sys.exit(f"{shlex.join(argv)}: exit code {child.returncode}\n{errors.decode()}")
    return output.decode().strip()


def succeeds(argv):
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.run(argv, **quiet).returncode == 0


def timed(argv):
    """Wall and CPU milliseconds of one command; CPU counts children that it waited for."""
    argv = [str(word) for word in argv]
    with tempfile.TemporaryFile() as errors:
        actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                   (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                   (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)]
        start = time.perf_counter()
        # posix_spawn does not copy this process, which a fork would.
        pid = os.posix_spawnp(argv[0], argv, os.environ, file_actions=actions, setpgroup=0)
        try:
            _, status, usage = os.wait4(pid, 0)
        except BaseException:
            finish(pid)
            raise
        elapsed = (time.perf_counter() - start) * 1000
        if status != 0:
            errors.seek(0)
            sys.exit(f"{shlex.join(argv)}: status {status}\n{errors.read().decode()}")
    return elapsed, (usage.ru_utime + usage.ru_stime) * 1000


def peak(argv):
    """Peak resident MiB of the largest single process of a command. time(1) starts it, because a process inherits
    the peak of the one that it was forked from, and Python is large."""
    with tempfile.NamedTemporaryFile() as figure:
        run(["/usr/bin/time", "-q", "-f", "%M", "-o", figure.name, *argv])
        return int(Path(figure.name).read_text().split()[-1]) / 1024


def median(figures):
    return statistics.median(figures)
