"""The cases, in the order of the goals that they check."""
import hashlib
import shutil
import time

from . import world
from .containers import Containers
from .measure import median, peak, run, timed
from .world import containerfile, settle

CASES = ("run", "cached", "lists", "pull", "memory", "stages", "steps", "copy", "noop", "commit", "exec", "life",
         "parallel", "idle", "many", "runtime")


class Bench(Containers):
    def __init__(self, options, place):
        self.options, self.place, self.results, self.server = options, place, [], None
        self.buildkit = None
        self.peers = [world.davit(options.davit, place), world.podman(options.podman, place)]
        self.runs, self.few = options.runs, max(3, options.runs // 3)

    def run(self, names):
        tar = world.busybox_tar(self.place)
        for peer in self.peers:
            run(peer("import", tar, "localhost/busybox"))
        world.suit(self.peers[1], self.place)
        for name in names:
            getattr(self, "case_" + name)()

    def builders(self):
        """The peers and BuildKit, which is started when it is first asked for."""
        if self.buildkit is None:
            self.buildkit = world.buildkit(self.place) or False
            if self.buildkit:
                run(self.buildkit("import", self.place / "busybox.tar", "localhost/busybox"))
            else:
                print("no BuildKit: dockerd is not installed, or does not start here", flush=True)
        return [*self.peers, *filter(None, [self.buildkit])]

    def clean(self):
        if self.buildkit:
            self.buildkit.daemon.kill()
            self.buildkit.daemon.wait()
        if self.server:
            self.server.kill()
            self.server.wait()
        for peer in self.peers:
            run(peer("rm", "-af"), check=False)

    # -- measuring and telling ------------------------------------------------------------------------------------

    def turns(self, commands, before=None, runs=None):
        """Runs each command in turn, `runs` times after a warming round; returns the figures by name."""
        figures = {name: [] for name in commands}
        for round_ in range((runs or self.runs) + 1):
            for name, command in commands.items():
                if before:
                    before(name)
                elapsed = timed(command)
                if round_ > 0:
                    figures[name].append(elapsed)
        return figures

    def pair(self, name, goal, command, before=None, runs=None, memory=True, peers=None):
        """One command of each peer in turn, then once more for its memory."""
        peers = peers or self.peers
        commands = {peer.name: command(peer) for peer in peers}
        figures = self.turns(commands, before, runs)
        peaks = {}
        for label, argv in commands.items() if memory else ():
            if before:
                before(label)
            peaks[label] = peak(argv)
        self.report(name, goal, figures, peaks)

    def report(self, name, goal, figures, peaks):
        result = {"name": name, "goal": goal, "peak_mib": peaks}
        for label, runs in figures.items():
            walls, burnt = [wall for wall, _ in runs], [cpu for _, cpu in runs]
            result[label] = {"median_ms": median(walls), "min_ms": min(walls), "cpu_ms": median(burnt)}
        text = [f"{name:32}"]
        for label in figures:
            figure = result[label]
            memory = f" {peaks[label]:6.1f} MiB" if label in peaks else ""
            text.append(f"{label} {figure['median_ms']:8.1f} ms (min {figure['min_ms']:.1f}, cpu {figure['cpu_ms']:.1f}){memory}")
        if "podman" in figures:
            result["ratio"] = result["davit"]["median_ms"] / result["podman"]["median_ms"]
            result["ratio_of_minima"] = result["davit"]["min_ms"] / result["podman"]["min_ms"]
            text.append(f"ratio {result['ratio']:.3f} (of minima {result['ratio_of_minima']:.3f})")
        if "buildkit" in figures:
            result["ratio_buildkit"] = result["davit"]["median_ms"] / result["buildkit"]["median_ms"]
            text.append(f"of BuildKit {result['ratio_buildkit']:.3f}")
        self.tell(result, "   ".join(text))

    def tell(self, result, text):
        self.results.append(result)
        print(f"{text}   goal {result['goal']}", flush=True)

    def table(self):
        def cell(result, label, key="median_ms"):
            return f"{result[label][key]:,.1f} ms" if label in result else ""
        lines = ["| what | davit | podman | ratio | BuildKit | ratio | davit's peak | goal |", "|---|---|---|---|---|---|---|---|"]
        for result in self.results:
            if "text" in result:
                lines.append(f"| {result['name']} | {result['text']} | | | | | | {result['goal']} |")
                continue
            ratio = f"1/{1 / result['ratio']:.1f}" if "ratio" in result else ""
            other = f"1/{1 / result['ratio_buildkit']:.1f}" if "ratio_buildkit" in result else ""
            memory = f"{result['peak_mib']['davit']:.0f} MiB" if "davit" in result["peak_mib"] else ""
            lines.append(f"| {result['name']} | {cell(result, 'davit')} | {cell(result, 'podman')} | {ratio} "
                         f"| {cell(result, 'buildkit')} | {other} | {memory} "
                         f"| {result['goal']} |")
        return "\n".join(lines) + "\n"

    # -- the cases ------------------------------------------------------------------------------------------------

    def case_run(self):
        self.pair("run --rm --network=none true", "1/5, 12 ms",
                  lambda peer: peer.run("busybox", "true"), runs=self.runs * 2)

    def case_cached(self):
        lines = [f"RUN echo {n} > /f{n}" if n % 4 else f"COPY file /c{n}" for n in range(1, 21)]
        context = containerfile(self.place / "cached", "FROM localhost/busybox", *lines)
        (context / "file").write_text("content\n")
        for peer in self.builders():
            run(peer.build(context))
        self.pair("cached build of 20 steps", "1/10, 15 ms", lambda peer: peer.build(context), peers=self.builders())

    def case_lists(self):
        for peer in self.peers:
            for number in range(50):
                run(peer.create("--name", f"c{number}", "busybox", "true"))
        self.pair("ps -a, 50 containers", "5 ms", lambda peer: peer("ps", "-a"), runs=self.runs * 2)
        self.pair("images, 50 containers", "5 ms", lambda peer: peer("images"), runs=self.runs * 2)
        for peer in self.peers:
            run(peer("rm", "-af"))

    def publish(self, name, layers, size):
        """An image of `layers` layers of `size` bytes in the registry, pushed by davit."""
        if not self.server:
            self.server, self.host = world.registry(self.place)
        context = self.place / name
        context.mkdir()
        lines = ["FROM localhost/busybox"]
        for number in range(layers):
            world.compressible(context / f"layer{number}", size, number)
            lines.append(f"COPY layer{number} /")
        containerfile(context, *lines)
        davit = self.peers[0]
        run(davit.build(context))
        run(davit("push", "-q", "--tls-verify=false", name, f"{self.host}/{name}"))
        run(davit("rmi", "-f", name))
        run(davit("system", "prune", "-f", "--build"))
        shutil.rmtree(context)
        return f"{self.host}/{name}"

    def case_pull(self):
        image = self.publish("big", 10, 50_000_000)
        by_name = {peer.name: peer for peer in self.peers}

        def fresh(name):
            run(by_name[name]("rmi", "-f", image), check=False)
            settle()

        self.pair("pull of 10 layers, 500 MB", "1/2, 64 MiB", lambda peer: peer("pull", "-q", "--tls-verify=false", image),
                  before=fresh, runs=self.few)
        again = f"{self.host}/again"
        self.pair("push of an unchanged image", "100 ms of CPU",
                  lambda peer: peer("push", "-q", "--tls-verify=false", image, again), runs=self.few)
        for peer in self.peers:
            run(peer("rmi", "-f", image), check=False)

    def case_memory(self):
        """Peak memory of a build that copies 1 GB twice, and of a pull of 1 GB."""
        context = containerfile(self.place / "gigabyte", "FROM localhost/busybox", "COPY data /", "RUN cp /data /copy")
        world.compressible(context / "data", 1_000_000_000, 7)
        self.pair("build that copies 1 GB twice", "64 MiB", lambda peer: peer.build(context, "--no-cache"),
                  before=lambda _: settle(), runs=1)
        for peer in self.peers:
            run(peer("rmi", "-f", "gigabyte"), check=False)
        shutil.rmtree(context)
        davit = self.peers[0]
        image = self.publish("huge", 4, 250_000_000)
        figure = peak(davit("pull", "-q", "--tls-verify=false", image))
        self.tell({"name": "pull of 1 GB", "goal": "64 MiB", "text": f"peak {figure:.0f} MiB"},
                  f"{'pull of 1 GB':32}davit peak {figure:.1f} MiB")
        run(davit("rmi", "-f", image))

    def case_stages(self):
        """12 stages that sleep for half a second, two at a time: 3 s is the least."""
        lines = []
        for number in range(12):
            lines += [f"FROM localhost/busybox AS s{number}", f"RUN sleep 0.5; echo {number} > /out"]
        lines += ["FROM localhost/busybox", *(f"COPY --from=s{number} /out /out{number}" for number in range(12))]
        context = containerfile(self.place / "stages", *lines)
        self.pair("12 stages of 0.5 s, 2 at a time", "3,300 ms", lambda peer: peer.build(context, "--no-cache", "--jobs=2"),
                  runs=self.few, memory=False, peers=self.builders())

    def case_steps(self):
        lines = [f"RUN echo {n} > /f{n}" for n in range(20)]
        context = containerfile(self.place / "steps", "FROM localhost/busybox", *lines)
        self.pair("20 RUN steps, cold", "1/5, 1/3 of BuildKit", lambda peer: peer.build(context, "--no-cache"),
                  runs=self.few, peers=self.builders())

    def forget(self, name):
        """Takes away what davit remembers of the context's files."""
        for memory in (self.place / "dr/build").glob("stat-*") if name == "davit" else ():
            memory.unlink()

    def case_copy(self):
        context = containerfile(self.place / "files", "FROM localhost/busybox", "COPY tree /tree")
        world.many_files(context / "tree", 20_000, 5_000)
        target = self.place / "copied"

        def before(name):
            if target.exists():
                shutil.rmtree(target)
            self.forget(name)
            settle()

        commands = {"cp -a": ["cp", "-a", context / "tree", target]}
        commands |= {peer.name: peer.build(context, "--no-cache") for peer in self.builders()}
        figures = self.turns(commands, before, self.few)
        for _ in range(1):
            before("davit")
            peaks = {"davit": peak(commands["davit"])}
        self.report("COPY of 20,000 files, cold", "1.3 x cp -a", figures, peaks)
        result = self.results[-1]
        factor = result["davit"]["median_ms"] / result["cp -a"]["median_ms"]
        least = result["davit"]["min_ms"] / result["cp -a"]["min_ms"]
        self.tell({"name": "the same, beside `cp -a`", "goal": "1.3", "text": f"{factor:.2f} x"},
                  f"{'':32}davit / cp -a: {factor:.2f}, of minima {least:.2f}")
        shutil.rmtree(context)

    def case_noop(self):
        context = containerfile(self.place / "noop", "FROM localhost/busybox", "COPY tree /tree")
        world.many_files(context / "tree", 50_000, 200)
        time.sleep(0.1)
        for peer in self.builders():
            run(peer.build(context))
        self.pair("no-op build, 50,000 files", "300 ms", lambda peer: peer.build(context), runs=self.few,
                  peers=self.builders())
        shutil.rmtree(context)

    def case_commit(self):
        """What the commit of a RUN that writes 1 GiB adds, alone and beside a step that follows."""
        davit = self.peers[0]
        write = "dd if=/dev/zero of=/big bs=1M count=1024"
        # The same work without the layer: what was written is gone before the step ends.
        gone = containerfile(self.place / "gone", "FROM localhost/busybox", f"RUN {write} && rm /big")
        alone = containerfile(self.place / "alone", "FROM localhost/busybox", f"RUN {write}")
        beside = containerfile(self.place / "beside", "FROM localhost/busybox", f"RUN {write}", "RUN sleep 4")
        commands = {
            "gone": davit.build(gone, "--no-cache"),
            "alone": davit.build(alone, "--no-cache"),
            "beside": davit.build(beside, "--no-cache"),
        }

        def fresh(_):
            # Each round leaves two layers of 1 GiB to the cache.
            for image in ("alone", "beside"):
                run(davit("rmi", "-f", image), check=False)
            run(davit("system", "prune", "-f", "--build"))
            settle()

        figures = self.turns(commands, fresh, self.few)
        walls = {name: median([wall for wall, _ in runs]) for name, runs in figures.items()}
        sha = median([sha256_ms(1 << 30) for _ in range(3)])
        added, critical = walls["alone"] - walls["gone"], walls["beside"] - 4000 - walls["gone"]
        text = f"{added:.0f} ms after the step, {critical:.0f} ms beside another; one sha256 pass {sha:.0f} ms"
        self.tell({"name": "commit of 1 GiB", "goal": "1.2 x sha256", "text": text, "walls": walls, "sha256_ms": sha},
                  f"{'commit of 1 GiB':32}{text}")


def sha256_ms(size):
    block, digest, start = bytes(1 << 20), hashlib.sha256(), time.perf_counter()
    for _ in range(size >> 20):
        digest.update(block)
    return (time.perf_counter() - start) * 1000
