#!/usr/bin/env python3
"""Retention and budget under load: `pgbench` writes, a recovery point is taken every few minutes, and the size of the repository is
sampled every second.

Green when every sample is within the budget, every point that is left restores, with PostgreSQL alone and by replay up to the last
commit, to exactly the rows of the source, and points were pruned meanwhile. Exits 0 (green), 1 (red) or 2 (not run to its end, which
proves nothing). `--judge REPORT` judges a report again, with another `--budget` if one is given.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
# The sums that every transaction of pgbench changes alike.
SUMS = """select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
          (select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history),
          (select count(*) from pgbench_history)"""


def size(text):
    number, unit = re.fullmatch(r"(\d+) ?(\w*)", text).groups()
    return int(number) * UNITS[unit]


def measured(folder):
    """The bytes of all files below a folder, and what they and the folders take on disk. Files come and go meanwhile."""
    apparent = blocks = 0
    for root, folders, files in os.walk(folder):
        for name in files + folders:
            try:
                meta = os.lstat(os.path.join(root, name))
            except FileNotFoundError:
                continue
            blocks += meta.st_blocks * 512
            apparent += meta.st_size if name in files else 0
    return apparent, blocks


class Sampler(threading.Thread):
    """Samples a folder's size every second."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.samples, self.ended, self.begun = folder, [], threading.Event(), time.monotonic()

    def run(self):
        while True:
            self.samples.append([round(time.monotonic() - self.begun, 1), *measured(self.folder)])
            if self.ended.wait(1):
                return

    def end(self):
        self.ended.set()
        self.join()
        return self.samples


class Trial:
    def __init__(self, args):
        self.args, self.dir = args, Path(args.dir)
        self.config = self.dir / "retention.toml"
        self.servers = []

    def drill(self, *words):
        return subprocess.run([self.args.program, *map(str, words)], capture_output=True, text=True)

    def must(self, *words):
        done = self.drill(*words)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(map(str, words))}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def begin(self):
        """A stack with a configuration that limits its repository."""
        self.must("stack", "up", "--dir", self.dir)
        text = (self.dir / "cdc-drill.toml").read_text()
        text += f'\n[backup]\nkeep = {self.args.keep}\nbudget = "{self.args.budget}"\n'
        self.config.touch(0o600)
        self.config.write_text(text)
        setting = lambda section, name: re.search(rf'^\[{section}\]$[^\[]*?^{name} = "(.*)"$', text, re.M).group(1)  # noqa: E731
        self.bin = Path(setting("postgres", "bin"))
        self.repository = self.dir / setting("repository", "path")
        self.pgdata = self.dir / setting("postgres", "pgdata")
        owner = os.stat(self.pgdata)
        self.account = {"user": owner.st_uid, "group": owner.st_gid} if os.geteuid() == 0 else {}
        self.url = setting("postgres", "url")
        self.sql(self.url, "create database bench")
        self.bench = self.url.rsplit("/", 1)[0] + "/bench"
        subprocess.run(
            [self.bin / "pgbench", "-i", "-q", "-s", str(self.args.scale), self.bench], check=True, capture_output=True
        )

    def sql(self, url, text):
        done = subprocess.run([self.bin / "psql", "-XAtq", "-d", url, "-c", text], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{text}: {done.stderr}")
        return done.stdout.strip()

    def load(self):
        rate = ["-R", str(self.args.rate)] if self.args.rate else []
        command = [self.bin / "pgbench", "-n", "-c", "2", "-T", str(self.args.seconds + 3600), *rate, self.bench]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def points(self):
        return json.loads(self.must("backup", "list", "--config", self.config, "--json"))

    def take(self, begun):
        """One recovery point, or a refusal for want of room, which is no fault of the budget."""
        at = time.monotonic()
        done = self.drill("backup", "create", "--config", self.config, "--json")
        taken = {
            "at": round(at - begun, 1),
            "seconds": round(time.monotonic() - at, 1),
            "exit": done.returncode,
            "point": json.loads(done.stdout)["point"] if done.returncode == 0 else None,
            "said": done.stderr.strip()[-2000:],
            "points": len(self.points()),
        }
        print(f"{taken['at']:8.0f} s: exit {taken['exit']}, {taken['points']} points", flush=True)
        return taken

    def settle(self):
        """Ends the load and lets the last commit be archived: what the restored servers have to hold."""
        system_id = self.sql(self.url, "select system_identifier from pg_control_system()")
        last = self.sql(self.bench, "select pg_walfile_name(pg_switch_wal())")
        timeline, log = last[:8], last[8:16]
        place = self.repository / "wal" / system_id / timeline / log
        while not any(place.glob(f"{last}-*")):
            time.sleep(0.2)
        return system_id, self.sql(self.bench, SUMS)

    def restore(self, point, system_id):
        """Extracts a point without this program and replays all WAL; the sums that the server then holds."""
        folder = self.dir / "restored"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        archive = self.repository / "points" / point / "pg" / "base.tar.zst"
        unpacked = subprocess.Popen(["zstd", "-dcq", archive], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", folder], stdin=unpacked.stdout, check=True)
        if unpacked.wait() != 0:
            raise RuntimeError(f"{archive} does not decompress")
        (folder / "recovery.signal").touch()
        if self.account:
            subprocess.run(["chown", "-R", f"{self.account['user']}:{self.account['group']}", folder], check=True)
        fetch = f"{self.args.program} wal fetch --repository {self.repository} --system-id {system_id} %f %p"
        socket = self.dir / "socket"
        socket.mkdir(exist_ok=True)
        if self.account:
            os.chown(socket, self.account["user"], self.account["group"])
        options = {
            "restore_command": fetch, "archive_mode": "off", "listen_addresses": "", "port": "5999",
            "unix_socket_directories": str(socket), "hot_standby": "off", "logging_collector": "off",
            "ssl": "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        log = open(self.dir / f"restored-{point}.log", "w")
        server = subprocess.Popen(
            [self.bin / "postgres", "-D", folder, *words], stdout=log, stderr=log, cwd="/", **self.account
        )
        try:
            login = self.url.split("://", 1)[1].split("@")[0].split(":")
            url = f"host={socket} port=5999 dbname=bench user={login[0]}" + (
                f" password={login[1]}" if len(login) > 1 else ""
            )
            while server.poll() is None:
                ready = subprocess.run([self.bin / "pg_isready", "-q", "-h", socket, "-p", "5999"])
                if ready.returncode == 0:
                    return self.sql(url, SUMS)
                time.sleep(0.2)
            raise RuntimeError(f"the server of {point} ended: {(self.dir / f'restored-{point}.log').read_text()[-2000:]}")
        finally:
            server.terminate()
            server.wait()
            shutil.rmtree(folder, ignore_errors=True)

    def end(self):
        self.drill("stack", "down", "--dir", self.dir)

    def run(self):
        self.begin()
        sampler = Sampler(self.repository)
        sampler.start()
        load, begun = self.load(), time.monotonic()
        taken = []
        while True:
            taken.append(self.take(begun))
            left = begun + self.args.seconds - time.monotonic()
            if left <= 0:
                break
            time.sleep(max(0, min(left, begun + self.args.every * len(taken) - time.monotonic())))
        is_running = load.poll() is None
        load.terminate()
        load.wait()
        system_id, expected = self.settle()
        samples = sampler.end()
        checked = self.drill("backup", "check", "--config", self.config, "--deep", "--json")
        points = [point["point"] for point in self.points()]
        restored = {}
        for point in points:
            restored[point] = self.restore(point, system_id)
            print(f"{point}: {'equal' if restored[point] == expected else restored[point]}", flush=True)
        return {
            "budget": size(self.args.budget), "keep": self.args.keep, "seconds": self.args.seconds,
            "every": self.args.every, "rate": self.args.rate, "scale": self.args.scale,
            "load_ran_to_the_end": is_running, "taken": taken, "samples": samples, "points": points,
            "expected": expected, "restored": restored,
            "check": {"exit": checked.returncode, "report": json.loads(checked.stdout or "{}")},
        }


def judge(report, budget):
    """What is wrong, and the line that sums up what was seen."""
    wrong = []
    samples, taken, expected = report["samples"], report["taken"], report["expected"]
    over = [sample for sample in samples if max(sample[1:]) > budget]
    if over:
        at, apparent, blocks = max(over, key=lambda sample: max(sample[1:]))
        wrong.append(f"over the budget of {budget} in {len(over)} samples: {apparent} bytes, {blocks} on disk at {at} s")
    if len(samples) < report["seconds"] / 2:
        wrong.append(f"only {len(samples)} samples in {report['seconds']} s")
    refused = [point for point in taken if point["exit"] == 35]
    for point in taken:
        if point["exit"] not in (0, 35):
            wrong.append(f"backup create at {point['at']} s: exit {point['exit']}: {point['said']}")
    made = [point for point in taken if point["exit"] == 0]
    if not report["load_ran_to_the_end"]:
        wrong.append("pgbench ended before the time was over")
    if len(report["points"]) >= len(made):
        wrong.append(f"nothing was pruned: {len(made)} points taken, {len(report['points'])} left")
    if not report["points"]:
        wrong.append("no point is left")
    if len(report["points"]) > report["keep"]:
        wrong.append(f"{len(report['points'])} points left of {report['keep']} to keep")
    sums = expected.split("|")
    if len(set(sums[:4])) != 1 or int(sums[4]) == 0:
        wrong.append(f"the source's own sums differ, or nothing was written: {expected}")
    for point in report["points"]:
        if report["restored"].get(point) != expected:
            wrong.append(f"{point} restores to {report['restored'].get(point)}, the source has {expected}")
    if report["check"]["exit"] != 0:
        wrong.append(f"backup check --deep: exit {report['check']['exit']}: {report['check']['report'].get('defects')}")
    highest = [max(sample[i] for sample in samples) for i in (1, 2)]
    seen = (
        f"{len(made)} points taken, {len(refused)} refused, {len(report['points'])} left; {sums[4]} transactions; "
        f"at most {highest[0] / 2**20:.1f} MiB, {highest[1] / 2**20:.1f} MiB on disk, of {budget / 2**20:.0f} MiB "
        f"in {len(samples)} samples"
    )
    return wrong, seen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", metavar="REPORT", help="judge this report again, and run nothing")
    parser.add_argument("--program", default="target/release/cdc-drill", help="the program under test")
    parser.add_argument("--dir", help="a folder for the stack, which must not exist")
    parser.add_argument("--seconds", type=int, default=3600, help="how long to write")
    parser.add_argument("--every", type=float, default=300, help="seconds from one recovery point to the next")
    parser.add_argument("--keep", type=int, default=4, help="points to keep")
    parser.add_argument("--budget", help="what the repository may take, such as `400 MiB`")
    parser.add_argument("--rate", type=float, default=0, help="transactions a second; 0 for as many as there can be")
    parser.add_argument("--scale", type=int, default=20, help="the scale of pgbench: 15 MiB each")
    parser.add_argument("--report", help="where to write what was seen, as JSON")
    args = parser.parse_args()
    if args.judge:
        report = json.loads(Path(args.judge).read_text())
        budget = size(args.budget) if args.budget else report["budget"]
    else:
        missing = [program for program in ("zstd", "tar") if not shutil.which(program)]
        if missing:
            print(f"not run: expected the programs zstd and tar, found no {', '.join(missing)}", file=sys.stderr)
            return 2
        args.program = os.path.abspath(args.program)
        args.budget = args.budget or "400 MiB"
        budget = size(args.budget)
        trial = Trial(args)
        try:
            report = trial.run()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            print(f"not run to its end: {error}", file=sys.stderr)
            return 2
        finally:
            trial.end()
        if args.report:
            Path(args.report).write_text(json.dumps(report))
    wrong, seen = judge(report, budget)
    print(seen)
    for line in wrong:
        print(f"red: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
