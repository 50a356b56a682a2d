#!/usr/bin/env python3
"""Archiving and backups beside other programs, on PostgreSQL servers of its own: `archive.py push|commits|drain|backup|replay`.

push      milliseconds for one segment: idle, filled by pgbench, and of random bytes
commits   commits a second of pgbench with archiving and without
drain     segments a second, where many wait
replay    seconds to replay a GiB of WAL
backup    a backup and a restore of a pgbench database: seconds, seconds of processor time of clients and server, size of the repository

Programs are compared in turns, round after round, so that what the machine does meanwhile meets all of them; the table has medians, and
their ratios to the first line. What is not installed is left out and named. Needs PostgreSQL 15 in /usr/lib/postgresql/15/bin or `--bin`;
`apt-get install pgbackrest barman zstd` gives the rest. Installs nothing. As root, servers and programs run as `--account`.
"""

import argparse
import json
import os
import pwd
import re
import shutil
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

SEGMENT = 16 << 20
PORT = 5977


class Cluster:
    """A PostgreSQL server in a folder, and the repositories of those who archive from it."""

    def __init__(self, args, folder):
        self.args, self.folder, self.bin = args, Path(folder), Path(args.bin)
        self.data, self.socket = self.folder / "data", self.folder / "socket"
        self.run_as = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam(args.account)
            self.run_as = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        shutil.rmtree(self.folder, ignore_errors=True)
        for part in (self.folder, self.socket):
            part.mkdir(parents=True, mode=0o755)
            self.give(part)
        self.program = self.folder / "cdc-drill"
        shutil.copy(args.program, self.program)
        self.environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(self.folder), "PGHOST": str(self.socket),
            "PGPORT": str(PORT), "PGUSER": "postgres", "PGDATABASE": "postgres",
        }

    def give(self, path):
        if self.run_as:
            os.chown(path, self.run_as["user"], self.run_as["group"])

    def call(self, words, check=True, **more):
        words = [str(word) for word in words]
        done = subprocess.run(
            words, capture_output=True, text=True, env=self.environment, cwd=self.folder, **self.run_as, **more
        )
        if check and done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done

    def timed(self, words):
        """Seconds, and the processor seconds of the program, what it waited for, and the server."""
        before, at = self.server_cpu(), time.monotonic()
        words = [str(word) for word in words]
        log = open(self.folder / "timed.log", "w+")
        child = subprocess.Popen(words, stdout=log, stderr=log, env=self.environment, cwd=self.folder, **self.run_as)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - at
        if child.returncode != 0:
            log.seek(0)
            raise RuntimeError(f"{' '.join(words)}: exit {child.returncode}\n{log.read()[-3000:]}")
        return seconds, used.ru_utime + used.ru_stime + self.server_cpu() - before

    def server_cpu(self):
        """Processor seconds of the server so far: its processes, and those that have ended."""
        pid = self.data / "postmaster.pid"
        if not pid.exists():
            return 0.0
        main = pid.read_text().split("\n")[0]
        ticks = 0
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            try:
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if process.name == main or fields[1] == main:
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / os.sysconf("SC_CLK_TCK")

    def make(self):
        self.call([self.bin / "initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync"])
        self.settings = {
            "unix_socket_directories": f"'{self.socket}'", "port": PORT, "listen_addresses": "'127.0.0.1'",
            "wal_level": "replica", "archive_mode": "on", "archive_command": "'true'", "max_wal_size": "4GB",
            "shared_buffers": "512MB", "checkpoint_timeout": "30min", "max_wal_senders": 10,
        }
        text = "".join(f"{name} = {value}\n" for name, value in self.settings.items())
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(text)
        self.start()

    def start(self, data=None):
        data = data or self.data
        self.call([self.bin / "pg_ctl", "-D", data, "-w", "-t", "600", "-l", self.folder / "postgres.log", "start"])

    def stop(self, data=None):
        self.call([self.bin / "pg_ctl", "-D", data or self.data, "-m", "fast", "-w", "stop"], check=False)

    def sql(self, text, database="postgres"):
        return self.call([self.bin / "psql", "-XAtq", "-d", database, "-c", text]).stdout.strip()

    def archive_with(self, command, pause=1):
        command = command.replace("'", "''")
        self.sql(f"alter system set archive_command = '{command}'")
        self.sql("select pg_reload_conf()")
        # The archiver takes the new command with its next file.
        time.sleep(pause)

    def settle(self):
        """Waits until everything is archived."""
        self.sql("select pg_switch_wal()")
        while self.sql("select count(*) from pg_ls_archive_statusdir() where name like '%.ready'") != "0":
            time.sleep(0.1)


class Ours:
    name = "cdc-drill"

    def __init__(self, cluster):
        self.cluster, self.repository = cluster, cluster.folder / "ours"

    def make(self):
        c = self.cluster
        shutil.rmtree(self.repository, ignore_errors=True)
        c.call([c.program, "backup", "init", "--repository", self.repository])
        self.config = c.folder / "cdc-drill.toml"
        self.config.write_text(
            f'[postgres]\nbin = "{c.bin}"\npgdata = "{c.data}"\nurl = "postgres://postgres@127.0.0.1:{PORT}/postgres"\n'
            f'[kafka]\nbootstrap = "127.0.0.1:1"\n[connect]\nurl = "http://127.0.0.1:1"\n[registry]\nurl = "http://127.0.0.1:1"\nflavour = "apicurio"\n'
            f'[repository]\npath = "{self.repository}"\n[backup]\nkeep = 1\nbudget = "100 GiB"\n'
        )
        c.give(self.config)

    def archive_command(self):
        c = self.cluster
        return f"{c.program} wal push --repository {self.repository} --pgdata {c.data} %p"

    def push(self, path):
        c = self.cluster
        return [c.program, "wal", "push", "--repository", self.repository, "--pgdata", c.data, path]

    def backup(self):
        return [self.cluster.program, "backup", "create", "--config", self.config, "--only", "postgres"]

    def restore(self, to):
        """Its own command, which verifies, replays to where the backup is consistent, reads back, and shuts down."""
        c = self.cluster
        return [c.program, "postgres", "restore", "--repository", self.repository, "--bin", c.bin, "--pgdata", to, "--target", "immediate"]

    def extract(self, to):
        """The base backup as it is, as for anybody without the program: nothing is verified or replayed."""
        to.mkdir(mode=0o700)
        self.cluster.give(to)
        point = max((self.repository / "points").glob("*/pg/base.tar.zst"))
        return ["bash", "-o", "pipefail", "-c", f"zstd -dcq {point} | tar -x -C {to}"]

    def restore_command(self):
        system_id = self.cluster.sql("select system_identifier from pg_control_system()")
        return f"{self.cluster.program} wal fetch --repository {self.repository} --system-id {system_id} %f %p"


class Backrest:
    name = "pgBackRest"

    def __init__(self, cluster, processes=2, is_async=False, compression=None, name=None):
        self.cluster, self.processes, self.is_async, self.compression = cluster, processes, is_async, compression
        self.name = name or self.name
        self.repository = cluster.folder / re.sub(r"\W+", "-", self.name)

    def make(self):
        c = self.cluster
        for folder in (self.repository, self.repository / "log", self.repository / "spool", self.repository / "lock"):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            c.give(folder)
        self.config = self.repository / "pgbackrest.conf"
        compression = f"compress-type={self.compression}\n" if self.compression else ""
        asynchronous = "archive-async=y\n" if self.is_async else ""
        self.config.write_text(
            f"[global]\nrepo1-path={self.repository}/repo\nlog-path={self.repository}/log\nlock-path={self.repository}/lock\n"
            f"spool-path={self.repository}/spool\nprocess-max={self.processes}\nrepo1-retention-full=1\nstart-fast=y\n"
            f"log-level-console=warn\n{compression}{asynchronous}"
            f"[main]\npg1-path={c.data}\npg1-port={PORT}\npg1-socket-path={c.socket}\npg1-user=postgres\n"
        )
        c.give(self.config)
        c.call([*self.words(), "stanza-create"])

    def words(self):
        return ["pgbackrest", f"--config={self.config}", "--stanza=main"]

    def archive_command(self):
        return f"pgbackrest --config={self.config} --stanza=main archive-push %p"

    def push(self, path):
        return [*self.words(), "archive-push", path]

    def backup(self):
        return [*self.words(), "--type=full", "backup"]

    def restore(self, to):
        to.mkdir(mode=0o700)
        self.cluster.give(to)
        return [*self.words(), f"--pg1-path={to}", "restore"]

    def restore_command(self):
        return f'pgbackrest --config={self.config} --stanza=main --pg1-path={self.cluster.folder}/restored archive-get %f "%p"'


class Basebackup:
    """`pg_basebackup` alone: its files as they are, or one compressed archive."""

    def __init__(self, cluster, compressed):
        self.cluster, self.compressed = cluster, compressed
        self.name = "pg_basebackup, zstd" if compressed else "pg_basebackup"
        self.repository = cluster.folder / re.sub(r"\W+", "-", self.name)

    def make(self):
        self.fresh()

    def fresh(self):
        shutil.rmtree(self.repository, ignore_errors=True)

    def archive_command(self):
        return "true"

    def backup(self):
        self.fresh()
        more = ["-Ft", "--compress=client-zstd:3"] if self.compressed else ["-Fp"]
        return [self.cluster.bin / "pg_basebackup", "-D", self.repository, "-c", "fast", "-X", "stream", *more]

    def restore(self, to):
        if not self.compressed:
            return ["cp", "-a", self.repository, to]
        to.mkdir(mode=0o700)
        self.cluster.give(to)
        tar = f"zstd -dcq {self.repository}/base.tar.zst | tar -x -C {to} && tar -x -C {to}/pg_wal -f {self.repository}/pg_wal.tar"
        return ["bash", "-o", "pipefail", "-c", tar]

    def restore_command(self):
        return None


class Barman:
    def __init__(self, cluster, compressed=False):
        self.cluster, self.compressed = cluster, compressed
        self.name = "Barman, gzip" if compressed else "Barman"
        self.repository = cluster.folder / re.sub(r"\W+", "-", self.name)

    def make(self):
        c = self.cluster
        shutil.rmtree(self.repository, ignore_errors=True)
        self.repository.mkdir()
        c.give(self.repository)
        login = f"host={c.socket} port={PORT} user=postgres dbname=postgres"
        self.config = self.repository / "barman.conf"
        compression = "backup_compression = gzip\n" if self.compressed else ""
        self.config.write_text(
            f"[barman]\nbarman_user = {self.cluster.args.account}\nbarman_home = {self.repository}\n"
            f"log_file = {self.repository}/log\nlog_level = WARNING\nbarman_lock_directory = {self.repository}\n"
            f"[main]\ndescription = main\nconninfo = {login}\nstreaming_conninfo = {login}\nbackup_method = postgres\n"
            f"archiver = on\ncompression = gzip\npath_prefix = {c.bin}\nimmediate_checkpoint = true\n"
            f"recovery_staging_path = {self.repository}/staging\nretention_policy = REDUNDANCY 1\n{compression}"
        )
        c.give(self.config)
        self.incoming = self.repository / "main" / "incoming"
        c.call(["mkdir", "-p", self.incoming])

    def words(self):
        return ["barman", "-c", self.config]

    def archive_command(self):
        # What its manual has for a server on the same machine; `barman cron` compresses later.
        return f"test ! -f {self.incoming}/%f && cp %p {self.incoming}/%f"

    def ready(self):
        """Takes in what the server has archived, as its cron job does; no backup begins before."""
        self.cluster.call([*self.words(), "archive-wal", "main"])

    def backup(self):
        return [*self.words(), "backup", "main"]

    def restore(self, to):
        return [*self.words(), "recover", "main", "latest", to]

    def restore_command(self):
        return None


def size_of(folder):
    total = 0
    for root, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                pass
    return total


def table(title, rows, unit, lower_is_better=True):
    """Medians, and the ratio of each to the first."""
    print(f"\n{title}")
    first = statistics.median(next(iter(rows.values())))
    for name, values in rows.items():
        middle = statistics.median(values)
        print(f"  {name:<28} {middle:10.2f} {unit:<4} {middle / first:6.2f}  ({len(values)}: {min(values):.2f} to {max(values):.2f})")


def segment(data, number, content, system_id):
    """A segment of timeline 1 with a header of this cluster."""
    header = struct.pack("<HHIQIIQII", 0xD110, 2, 1, number * SEGMENT, 0, 0, system_id, SEGMENT, 8192)
    path = data / "pg_wal" / f"{1:08X}{number >> 8:08X}{number & 0xFF:08X}"
    path.write_bytes(header + content[len(header):])
    return path


def filled(cluster):
    """The content of a segment that pgbench wrote."""
    cluster.sql("create database filled")
    cluster.call([cluster.bin / "pgbench", "-i", "-q", "-s", "10", "filled"])
    cluster.sql("checkpoint")
    first = cluster.sql("select pg_walfile_name(pg_current_wal_lsn())")
    cluster.call([cluster.bin / "pgbench", "-n", "-c", "4", "-j", "2", "-t", "6000", "filled"])
    names = sorted(p.name for p in (cluster.data / "pg_wal").iterdir() if len(p.name) == 24 and p.name > first)
    last = cluster.sql("select pg_walfile_name(pg_current_wal_lsn())")
    names = [name for name in names if name < last]
    return (cluster.data / "pg_wal" / names[len(names) // 2]).read_bytes()


def push(cluster, args):
    cluster.make()
    contents = {"idle": bytes(SEGMENT), "pgbench": filled(cluster), "random": os.urandom(SEGMENT)}
    system_id = int(cluster.sql("select system_identifier from pg_control_system()"))
    # An asynchronous one takes files that the server has marked, not one.
    contestants = [Ours(cluster), *[one for one in others(cluster, push=True) if not one.is_async]]
    for one in contestants:
        one.make()
    results, number = {}, 1000
    for kind, content in contents.items():
        rows = {one.name: [] for one in contestants}
        again = {one.name + ", again": [] for one in contestants}
        cpu = {one.name: [] for one in contestants}
        for _ in range(args.rounds):
            number += 1
            path = segment(cluster.data, number, content, system_id)
            cluster.give(path)
            for one in contestants:
                seconds, used = cluster.timed(one.push(path))
                rows[one.name].append(seconds * 1000)
                cpu[one.name].append(used * 1000)
                again[one.name + ", again"].append(cluster.timed(one.push(path))[0] * 1000)
            path.unlink()
        table(f"wal push, {kind}", rows | again, "ms")
        table(f"its processor time, {kind}", cpu, "ms")
        results[kind] = {"ms": rows | again, "cpu_ms": cpu, "bytes": {one.name: size_of(one.repository) for one in contestants}}
    return results


def commits(cluster, args):
    cluster.make()
    cluster.sql("create database bench")
    cluster.call([cluster.bin / "pgbench", "-i", "-q", "-s", str(args.scale), "bench"])
    contestants = [None, Ours(cluster), *others(cluster, push=True)]
    for one in contestants[1:]:
        one.make()
    name = lambda one: one.name if one else "not archived"  # noqa: E731
    rows, backlog, drain = ({name(one): [] for one in contestants} for _ in range(3))
    for _ in range(args.rounds):
        for one in contestants:
            cluster.archive_with(one.archive_command() if one else "true")
            cluster.sql("checkpoint")
            done = cluster.call([cluster.bin / "pgbench", "-n", "-c", "8", "-j", "2", "-T", str(args.seconds), "bench"])
            rows[name(one)].append(float(re.search(r"tps = ([\d.]+)", done.stdout).group(1)))
            waits = cluster.sql("select count(*) from pg_ls_archive_statusdir() where name like '%.ready'")
            backlog[name(one)].append(float(waits))
            at = time.monotonic()
            cluster.settle()
            drain[name(one)].append(time.monotonic() - at)
    table("commits a second of pgbench", rows, "tps")
    table("segments that wait at its end", {k: [v + 1 for v in values] for k, values in backlog.items()}, "+1")
    table("seconds until all is archived", drain, "s")
    return {"tps": rows, "backlog": backlog, "drain": drain}


def drain(cluster, args):
    """Segments a second of a backlog, as it is after an hour without the repository."""
    cluster.make()
    cluster.sql("create database bench")
    cluster.call([cluster.bin / "pgbench", "-i", "-q", "-s", str(args.scale), "bench"])
    ours = Ours(cluster)
    commands = {}
    for one in (ours, *others(cluster, push=True)):
        one.make()
        commands[one.name] = one.archive_command()
    commands["cdc-drill --workers 1"] = ours.archive_command().replace("wal push", "wal push --workers 1")
    if args.other_program:
        old = cluster.folder / "cdc-drill-other"
        shutil.copy(args.other_program, old)
        commands["cdc-drill, other"] = ours.archive_command().replace(str(cluster.program), str(old))
    rows = {name: [] for name in commands}
    for _ in range(args.rounds):
        for name, command in commands.items():
            cluster.settle()
            cluster.archive_with("false")
            cluster.sql("drop table if exists filled; create table filled as select * from pgbench_accounts", "bench")
            cluster.sql("select pg_switch_wal()")
            waits = int(cluster.sql("select count(*) from pg_ls_archive_statusdir() where name like '%.ready'"))
            at = time.monotonic()
            cluster.archive_with(command, pause=0)
            cluster.settle()
            rows[name].append(waits / (time.monotonic() - at))
    table("segments a second of a backlog", rows, "1/s")
    return {"segments_per_s": rows}


def backup(cluster, args):
    cluster.make()
    cluster.sql("create database bench")
    cluster.call([cluster.bin / "pgbench", "-i", "-q", "-s", str(args.scale), "bench"])
    # Values of some rows as they are in a database that is used.
    cluster.call([cluster.bin / "pgbench", "-n", "-c", "4", "-j", "2", "-t", "5000", "bench"])
    size = int(cluster.sql("select sum(pg_database_size(oid)) from pg_database"))
    print(f"a database of {size / 2**20:.0f} MiB")
    contestants = [Ours(cluster), Basebackup(cluster, False), Basebackup(cluster, True), *others(cluster, push=False)]
    for one in contestants:
        one.make()
    parts = ("backup s", "backup cpu s", "restore s", "restore cpu s", "MiB")
    rows = {part: {one.name: [] for one in contestants} for part in parts}
    replay = {}
    for _ in range(args.rounds):
        for one in contestants:
            cluster.archive_with(one.archive_command())
            cluster.sql("checkpoint")
            cluster.settle()
            if isinstance(one, Barman):
                one.ready()
            seconds, cpu = cluster.timed(one.backup())
            rows["backup s"][one.name].append(seconds)
            rows["backup cpu s"][one.name].append(cpu)
            rows["MiB"][one.name].append(size_of(one.repository) / 2**20)
            ways = {one.name: one.restore}
            if isinstance(one, Ours):
                ways["cdc-drill, zstd and tar"] = one.extract
            for name, restore in ways.items():
                to = cluster.folder / "restored"
                shutil.rmtree(to, ignore_errors=True)
                seconds, cpu = cluster.timed(restore(to))
                if not (to / "PG_VERSION").exists():
                    raise RuntimeError(f"{name} restored nothing")
                rows["restore s"].setdefault(name, []).append(seconds)
                rows["restore cpu s"].setdefault(name, []).append(cpu)
                shutil.rmtree(to, ignore_errors=True)
    for part in parts:
        table(part, rows[part], part.split()[-1])
    return {"database_bytes": size, **rows, "replay": replay}


def replay(cluster, args):
    """Seconds to replay what pgbench wrote since a backup."""
    cluster.make()
    cluster.sql("create database bench")
    cluster.call([cluster.bin / "pgbench", "-i", "-q", "-s", str(args.scale), "bench"])
    contestants = [Ours(cluster), *[one for one in others(cluster, push=False) if isinstance(one, Backrest)]]
    rows = {}
    for one in contestants:
        one.make()
        cluster.archive_with(one.archive_command())
        cluster.sql("checkpoint")
        cluster.settle()
        cluster.timed(one.backup())
        before = cluster.sql("select pg_current_wal_lsn()")
        cluster.call([cluster.bin / "pgbench", "-n", "-c", "8", "-j", "2", "-T", str(args.seconds), "bench"])
        written = int(cluster.sql(f"select pg_current_wal_lsn() - '{before}'::pg_lsn"))
        cluster.settle()
        print(f"{one.name}: {written / 2**20:.0f} MiB of WAL to replay")
        commands = {one.name: one.restore_command()}
        if isinstance(one, Ours):
            # Under another name than that which recovery uses a file is fetched alone.
            commands["cdc-drill, one at a time"] = one.restore_command().replace("%p", "%p.one && mv %p.one %p")
        for _ in range(args.rounds):
            for name, command in commands.items():
                to = cluster.folder / "restored"
                shutil.rmtree(to, ignore_errors=True)
                cluster.timed(one.extract(to) if isinstance(one, Ours) else one.restore(to))
                with open(to / "postgresql.auto.conf", "w") as conf:
                    conf.write(f"restore_command = '{command}'\narchive_mode = off\nport = {PORT + 1}\n")
                (to / "recovery.signal").touch()
                cluster.give(to / "recovery.signal")
                cluster.give(to / "postgresql.auto.conf")
                at = time.monotonic()
                cluster.start(to)
                while cluster.call([cluster.bin / "psql", "-XAtq", "-p", str(PORT + 1), "-c", "select pg_is_in_recovery()"], check=False).stdout.strip() != "f":
                    time.sleep(0.05)
                rows.setdefault(name, []).append((time.monotonic() - at) / (written / 2**30))
                cluster.stop(to)
    table("seconds to replay a GiB of WAL", rows, "s")
    return {"s_per_gib": rows}


def others(cluster, push):
    found = []
    if shutil.which("pgbackrest"):
        found.append(Backrest(cluster))
        found.append(Backrest(cluster, compression="zst", name="pgBackRest, zstd"))
        if push:
            found.append(Backrest(cluster, is_async=True, compression="zst", name="pgBackRest, zstd, async"))
    else:
        print("left out: pgbackrest is not installed")
    if not push:
        if shutil.which("barman"):
            found += [Barman(cluster), Barman(cluster, compressed=True)]
        else:
            print("left out: barman is not installed")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["push", "commits", "drain", "backup", "replay"])
    parser.add_argument("--program", default="target/release/cdc-drill", help="the program under test")
    parser.add_argument("--other-program", help="drain: another build of it, to compare")
    parser.add_argument("--bin", default="/usr/lib/postgresql/15/bin", help="PostgreSQL's programs")
    parser.add_argument("--account", default="postgres", help="who the servers run as, where this runs as root")
    parser.add_argument("--dir", default="/tmp/cdc-drill-bench", help="a folder that is emptied first")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=20, help="how long pgbench writes")
    parser.add_argument("--scale", type=int, default=70, help="the scale of pgbench: 70 is 1 GiB")
    parser.add_argument("--report", help="where to write every value, as JSON")
    args = parser.parse_args()
    cluster = Cluster(args, args.dir)
    try:
        found = {"push": push, "commits": commits, "drain": drain, "backup": backup, "replay": replay}[args.what](cluster, args)
    finally:
        cluster.stop()
    if args.report:
        Path(args.report).write_text(json.dumps({"what": args.what, "rounds": args.rounds, **found}))
    shutil.rmtree(cluster.folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
