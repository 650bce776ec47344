"""The cases of containers' lives."""
import json
import shutil
import threading
from pathlib import Path

from .measure import median, run, succeeds, timed

IDLE = ("busybox", "sleep", "100000")


class Containers:
    """Mixed into `Bench`."""

    def case_exec(self):
        for peer in self.peers:
            run(peer("run", "-d", *peer.run_options, "--network=none", "--name", "e", *IDLE))
        self.pair("exec true", "6 ms", lambda peer: peer("exec", "e", "true"), runs=self.runs * 2)
        for peer in self.peers:
            run(peer("rm", "-f", "-t0", "e"))

    def case_life(self):
        """start, stop and rm by themselves."""
        by_name = {peer.name: peer for peer in self.peers}
        for peer in self.peers:
            run(peer.create("--name", "s", "busybox", "true"))
            run(peer("start", "s"))
            run(peer.create("--name", "t", *IDLE))
        self.pair("start", "1/10", lambda peer: peer("start", "s"),
                  before=lambda name: run(by_name[name]("wait", "s")), memory=False)
        self.pair("stop", "1/10", lambda peer: peer("stop", "-t0", "t"),
                  before=lambda name: run(by_name[name]("start", "t")), memory=False)
        self.pair("rm", "1/10", lambda peer: peer("rm", "u"),
                  before=lambda name: run(by_name[name].create("--name", "u", "busybox", "true")), memory=False)
        for peer in self.peers:
            run(peer("rm", "-f", "-t0", "s", "t"))

    def case_parallel(self):
        """50 starts at once, and the removal of 50 that run, beside the same one after the other."""
        def starts(peer, jobs):
            command = peer("run", "-d", *peer.run_options, "--network=none", *IDLE)
            return ["sh", "-c", 'jobs=$1; shift; seq 50 | xargs -P "$jobs" -I{} "$@" >/dev/null', "sh", str(jobs), *command]
        for label, jobs in (("50 starts, one by one", 1), ("50 starts at once", 50)):
            def before(name):
                run(next(peer for peer in self.peers if peer.name == name)("rm", "-af", "-t0"))
            self.pair(label, "scales with the cores", lambda peer, jobs=jobs: starts(peer, jobs), before=before,
                      runs=2, memory=False)

        def fill(name):
            peer = next(peer for peer in self.peers if peer.name == name)
            run(starts(peer, 8))
        self.pair("rm -f of 50 that run", "scales with the cores", lambda peer: peer("rm", "-af", "-t0"), before=fill,
                  runs=2, memory=False)

    def case_idle(self):
        """What an idle container costs beyond its payload."""
        for peer in self.peers:
            for _ in range(100):
                run(peer("run", "-d", *peer.run_options, "--network=none", *IDLE))
            monitors = run(peer("ps", "-q")).split()
            shares = []
            for monitor in json.loads(run(peer("inspect", *monitors))):
                rollup = Path(f"/proc/{monitor['State']['ConmonPid']}/smaps_rollup").read_text()
                shares.append(sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024)
            name = f"PSS of an idle container's monitor ({peer.name})"
            self.tell({"name": name, "goal": "0.3 MB", "text": f"{median(shares):.2f} MiB"},
                      f"{name:32}   median {median(shares):.2f} MiB of 100")
            run(peer("rm", "-af", "-t0"))

    def case_many(self):
        """Many at once, and many that exist. davit alone: the figures are bounds, and podman takes minutes."""
        davit = self.peers[0]
        latencies, lock = [], threading.Lock()

        def one():
            elapsed, _ = timed(davit.run("busybox", "true"))
            with lock:
                latencies.append(elapsed)
        threads = [threading.Thread(target=one) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        latencies.sort()
        middle, last = latencies[100], latencies[197]
        text = f"p50 {middle:.0f} ms, p99 {last:.0f} ms ({last / middle:.1f} times)"
        self.tell({"name": "200 run --rm at once", "goal": "p99 3 x p50", "text": text}, f"{'200 run --rm at once':32}   {text}")
        run(["sh", "-c", 'seq 3000 | xargs -P 2 -I{} "$@" >/dev/null', "sh", *davit.create("busybox", "true")])
        self.pair("ps -a, 3,000 containers", "50 ms", lambda peer: peer("ps", "-a"), peers=[davit])
        self.pair("run --rm beside 3,000", "12 ms", lambda peer: peer.run("busybox", "true"), peers=[davit])
        run(davit("rm", "-af"))

    def case_runtime(self):
        """The OCI runtime by itself, on a bundle, beside the others that work here."""
        bundle = self.place / "bundle"
        bundle.mkdir()
        shutil.copytree(self.place / "rootfs", bundle / "rootfs", symlinks=True)
        davit = [self.options.davit, "runtime"]
        run([*davit, "spec", "--bundle", bundle])
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update(terminal=False, args=["/bin/true"])
        config["root"]["readonly"] = True
        (bundle / "config.json").write_text(json.dumps(config))
        runtimes = {"davit": [*davit, "--root", str(self.place / "rt")]}
        for name in ("crun", "runc"):
            argv = [name, "--root", str(self.place / name)]
            if shutil.which(name) and succeeds([*argv, "run", "--bundle", str(bundle), "probe"]):
                runtimes[name] = argv
        commands = {name: [*argv, "run", "--bundle", str(bundle), f"bench-{name}"] for name, argv in runtimes.items()}
        self.report("runtime run", "not slower than crun", self.turns(commands, runs=self.runs * 2), {})
