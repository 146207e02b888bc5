"""What the benchmarks share: the servers of PG2OS_TEST_..., the programs under test, and how their CPU time is taken."""

import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RUNDIR = pathlib.Path(os.environ["PG2OS_TEST_RUNDIR"])
SCRATCH = tempfile.TemporaryDirectory(prefix="pg2os-bench.")   # gone when the program ends
PORT = os.environ["PG2OS_TEST_PG_PORT"]
CONNECTION = ["-h", "127.0.0.1", "-p", PORT, "-U", "postgres"]
# The programs of PostgreSQL would use TLS where the server offers it.
ENVIRONMENT = {**os.environ, "PGSSLMODE": "disable"}
TICKS = os.sysconf("SC_CLK_TCK")

TABLE = """
CREATE TABLE t (id bigint PRIMARY KEY, at timestamptz, day date, customer text, price numeric(12,2), payload jsonb,
  paid boolean, uid uuid, quantity integer, ratio double precision, note text, labels text[]);
CREATE PUBLICATION bench FOR TABLE t;
"""


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def build():
    """Builds the binary and the measuring program; returns their paths."""
    paths = {}
    for command in (["build", "--release", "--bin", "pg2os"], ["bench", "--bench", "stream", "--no-run"]):
        result = subprocess.run(["cargo", *command, "--locked", "-q", "--message-format", "json"], cwd=REPOSITORY,
                                stdout=subprocess.PIPE, text=True)
        if result.returncode != 0:
            sys.exit(f"bench.py: cargo {' '.join(command)} failed")
        for line in result.stdout.splitlines():
            message = json.loads(line)
            if message.get("executable"):
                paths[message["target"]["name"]] = message["executable"]
    return paths["pg2os"], paths["stream"]


def sql(statements, database="bench"):
    """Runs statements; the printed lines."""
    command = [os.environ["PG2OS_TEST_PSQL"], "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", *CONNECTION, "-d", database]
    result = subprocess.run(command, input=statements, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, check=True)
    return result.stdout.splitlines()


def fresh_database():
    """An empty database `bench` with table t, and no slot of an earlier benchmark."""
    sql("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active", "postgres")
    sql("DROP DATABASE IF EXISTS bench WITH (FORCE);\nCREATE DATABASE bench;", "postgres")
    sql(TABLE)


def output(*command):
    """What a program prints; its messages stay visible."""
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, check=True).stdout


def load(stream, rows, per_transaction):
    """Fills t with the rows of the measuring program."""
    made = subprocess.Popen([stream, "rows", "0", str(rows)], stdout=subprocess.PIPE)
    psql = subprocess.Popen([os.environ["PG2OS_TEST_PSQL"], "-X", "-q", "-v", "ON_ERROR_STOP=1", *CONNECTION, "-d", "bench"],
                            stdin=subprocess.PIPE, env=ENVIRONMENT)
    for number, line in enumerate(made.stdout):
        if number % per_transaction == 0:
            psql.stdin.write(b"COPY t FROM stdin;\n" if number == 0 else b"\\.\nCOPY t FROM stdin;\n")
        psql.stdin.write(line)
    psql.stdin.write(b"\\.\nVACUUM ANALYZE t;\nCHECKPOINT;\n")
    psql.stdin.close()
    if psql.wait() != 0 or made.wait() != 0:
        sys.exit("bench.py: loading failed")


def opensearch(method, path):
    request = urllib.request.Request(os.environ["PG2OS_TEST_OS_URL"] + path, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read())


def count(index):
    """Documents of an index; 0 where there is none yet."""
    try:
        opensearch("POST", f"/{index}/_refresh")
        return opensearch("GET", f"/{index}/_count")["count"]
    except urllib.error.HTTPError as error:
        if error.code in (404, 503):
            return 0
        raise


def until(what, seconds, is_true):
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            sys.exit(f"bench.py: not within {seconds} s: {what}")
        time.sleep(0.5)


def settings(name, database, tables):
    """Writes a configuration and returns its path."""
    path = pathlib.Path(SCRATCH.name, f"{name}.yaml")
    path.write_text(json.dumps({
        "name": name,
        "postgres": {"host": "127.0.0.1", "port": int(PORT), "database": database, "user": "postgres",
                     "tls": {"mode": "disable"}},
        "opensearch": {"url": os.environ["PG2OS_TEST_OS_URL"]},
        "tables": tables}))
    return path


class Pg2os:
    """`pg2os run` in the background; its messages go to a file that is shown when it fails."""

    def __init__(self, binary, configuration, *flags):
        self.log = configuration.with_suffix(".log")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([binary, "--config", configuration, "run", *flags], stdout=log, stderr=log)

    def ended(self):
        """Waits for the end, which has to be in order."""
        if self.process.wait() != 0:
            sys.exit(f"bench.py: pg2os ended with status {self.process.returncode}:\n{self.log.read_text()[-3000:]}")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.ended()

    def highest_memory(self):
        """VmHWM in MiB."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        sys.exit(f"bench.py: pg2os is not running any more:\n{self.log.read_text()[-3000:]}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def timed(run):
    """Calls `run`, which runs a program: seconds, CPU seconds of the program, of PostgreSQL's backends that ended and of
    OpenSearch, and the share of all CPUs that processes took that do not belong to the benchmark."""
    time.sleep(0.3)   # a backend ends a moment after its client
    before, begun = cpu_seconds(), time.monotonic()
    run()
    seconds, busy = time.monotonic() - begun, cpu_seconds()[-1]
    time.sleep(0.3)
    client, backends, node, _ = (late - early for late, early in zip(cpu_seconds(), before))
    others = busy - before[-1] - client - backends - node
    return seconds, client, backends, node, max(0, others) / (seconds * os.cpu_count())


def cpu_seconds():
    """CPU seconds of this program's children, of PostgreSQL's backends that ended, of OpenSearch, of the whole machine."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, _, *backends = process_cpu(RUNDIR / "postgres/data/postmaster.pid")
    node, machine = process_cpu(RUNDIR / "opensearch/pid"), pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
    ticks = [int(field) for field in machine[1:9]]   # idle and waiting for a disk are the fourth and the fifth
    return children.ru_utime + children.ru_stime, sum(backends), sum(node), (sum(ticks) - ticks[3] - ticks[4]) / TICKS


def process_cpu(pid_file):
    """User and system seconds of a process, then of its children that it has waited for."""
    stat = pathlib.Path(f"/proc/{pid_file.read_text().split()[0]}/stat").read_text()
    return [int(field) / TICKS for field in stat.rsplit(")", 1)[1].split()[11:15]]


def spread(values, form="{:,.0f}"):
    """Median with the lowest and the highest."""
    return f"{form.format(statistics.median(values))} ({form.format(min(values))} to {form.format(max(values))})"
