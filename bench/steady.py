#!/usr/bin/env python3
"""bench/steady.py ZPIPE-BOX: what running inside costs, as ratios against the same program outside, in the same run.

Prints a table and writes build/bench/steady.json.  Runs alternate, figures are medians; the smallest stands beside them,
since a busy machine moves the median, and the ratio of the programs' own CPU time, which it moves less (inside as the
report says it, so without zpipe-box's).  A goal that is missed is said, and is no failure: this is no test."""
import json, os, resource, statistics, subprocess, sys, tempfile, time

box = os.path.abspath(sys.argv[1])
RUNS = int(os.environ.get("BENCH_RUNS", 7))
ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/tmp"}
XZ_BYTES = int(os.environ.get("BENCH_BYTES", 100_000_000))


def wall(argv, stdin=None):
    """Seconds, CPU seconds of the program and what it waited for, and its output."""
    with open(stdin or "/dev/null", "rb") as f, tempfile.NamedTemporaryFile() as report:
        boxed = argv[0] == box
        u = resource.getrusage(resource.RUSAGE_CHILDREN)
        t = time.perf_counter()
        r = subprocess.run([box, "--report", report.name] + argv[1:] if boxed else argv, stdin=f, stdout=subprocess.PIPE, env=ENV)
        took = time.perf_counter() - t
        v = resource.getrusage(resource.RUSAGE_CHILDREN)
        if r.returncode:
            sys.exit("%s: status %d" % (argv, r.returncode))
        cpu = v.ru_utime + v.ru_stime - u.ru_utime - u.ru_stime
        if boxed:
            with open(report.name) as f: # the name is given to a new file
                said = json.load(f)
            cpu = said["cpu_user_seconds"] + said["cpu_sys_seconds"]
    return took, cpu, r.stdout


def inside(argv):
    return [box, "--"] + argv


def sh(text):
    return ["sh", "-c", text]


def row(out, name, mine, theirs, goal, runs=RUNS, stdin=None, same=True):
    a, b, cpu = [], [], []
    wall(mine, stdin), wall(theirs, stdin)
    for _ in range(runs):
        x, y = wall(mine, stdin), wall(theirs, stdin)
        if same and x[2] != y[2]:
            sys.exit("%s: not the same bytes" % name)
        a.append(x[0])
        b.append(y[0])
        cpu.append((x[1], y[1]))
    z, o = statistics.median(a), statistics.median(b)
    spent = statistics.median(c[0] for c in cpu) / statistics.median(c[1] for c in cpu) if mine[0] == box else None
    print("%-34s inside %9.2f ms (min %9.2f)   outside %9.2f ms (min %9.2f)   %5.2fx   CPU %s   goal <= %.2fx: %s" %
          (name, z * 1e3, min(a) * 1e3, o * 1e3, min(b) * 1e3, z / o, "%5.2fx" % spent if spent else "     -", goal, "met" if z <= goal * o else "MISSED"),
          flush=True)
    out.append({"name": name, "inside_ms": z * 1e3, "inside_min_ms": min(a) * 1e3, "outside_ms": o * 1e3,
                "outside_min_ms": min(b) * 1e3, "ratio": z / o, "cpu_ratio": spent, "goal": goal, "runs": runs})


LOCKS = """
#include <pthread.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long sum;
static void *work(void *x)
{
    for (int i = 0; i < 1000000; i++) {
        pthread_mutex_lock(&lock);
        sum += i;
        pthread_mutex_unlock(&lock);
    }
    return x;
}
int main(void)
{
    pthread_t t[8];
    for (int i = 0; i < 8; i++)
        pthread_create(&t[i], 0, work, 0);
    for (int i = 0; i < 8; i++)
        pthread_join(t[i], 0);
    return sum != 8 * 499999500000l;
}
"""


def threads(rows, d, data):
    """Inside they take turns, on one CPU at a time; outside they have one CPU, and then all."""
    locks = os.path.join(d, "locks")
    built = subprocess.run(["cc", "-O1", "-pthread", "-x", "c", "-o", locks, "-"], input=LOCKS.encode())
    xz = ["xz", "-1", "-T4", "--block-size=4MiB", "-c"]
    for name, pin in (("one CPU", ["taskset", "-c", "0"]), ("all CPUs", [])):
        row(rows, "xz -1 -T4, outside %s" % name, inside(xz), pin + xz, 1.1 if pin else 4.0, 5, data)
        if built.returncode == 0:
            row(rows, "8 threads, one lock, outside %s" % name, [box, "--with", locks, "--", locks], pin + [locks], 1.1, 5)


def main():
    out = {"kernel": os.uname().release, "cpus": os.cpu_count(), "load": os.getloadavg()[0], "uid": os.geteuid(), "rows": []}
    print("%d CPUs, kernel %s, load %.1f, uid %d" % (out["cpus"], out["kernel"], out["load"], out["uid"]))
    rows = out["rows"]
    with tempfile.TemporaryDirectory() as d:
        data = os.path.join(d, "data")
        with open(data, "wb") as f:
            n = i = 0
            while n < XZ_BYTES:
                line = b"%d some text %d that can be made smaller\n" % (i, i * 7919 % 1000003)
                n += f.write(line)
                i += 1
        # A second of work each, many times the cost of the start.
        row(rows, "xz -1, %d MB" % (XZ_BYTES // 10**6), inside(["xz", "-1", "-T1", "-c"]), ["xz", "-1", "-T1", "-c"], 1.02, 5, data)
        # From a channel to a channel, against the same through a pipe.
        dd = "dd if=/dev/zero bs=64k count=16384 2>/dev/null | dd bs=64k 2>/dev/null | dd of=/dev/null bs=64k 2>/dev/null"
        zpipe = os.path.join(os.path.dirname(box), "zpipe")
        row(rows, "dd 1 GiB, channel to channel", [zpipe, dd], sh(dd), 1.0)
        row(rows, "sh, 1,000 times /bin/true", inside(sh("i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done")),
            sh("i=0; while [ $i -lt 1000 ]; do /bin/true; i=$((i+1)); done"), 1.3)
        threads(rows, d, data)
        work = "import json, re\nx = [json.loads(json.dumps({'a': i, 'b': str(i)})) for i in range(200000)]\n" \
               "print(sum(len(re.findall('[0-9]', y['b'])) for y in x))"
        row(rows, "python3, a second of work", inside(["python3", "-c", work]), ["python3", "-c", work], 1.15)
    os.makedirs("build/bench", exist_ok=True)
    with open("build/bench/steady.json", "w") as f:
        json.dump(out, f, indent=1)


main()
