#!/usr/bin/env python3
"""A machine of its own kernel, to try zpipe where this host's is another or gives no cgroups away.

    machine.py [--accel kvm] [--keep DIR] [--systemd] KERNEL COMMAND [WORD]...

QEMU boots a kernel over this host's files, which it cannot change: its root is an overlay in its memory over a read-only 9p
file system; its /tmp is new, it has no network, and cgroups of version 2. In it COMMAND runs in this directory, as root;
its output is ours, and so is its status (125: there is no machine).

KERNEL  a package of the distribution's, fetched with apt-get and unpacked below --keep (build/machine), not installed; or a directory
        that one was unpacked to: boot/vmlinuz-*, lib/modules
--systemd   COMMAND is a service of this host's systemd, which is process 1 there and divides the cgroups
--accel kvm, where the host's is whole; the default, tcg, works everywhere"""
import argparse, glob, os, random, re, shlex, signal, subprocess, sys, tempfile

MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
BUSYBOX = ("/bin/busybox", "/usr/bin/busybox")
MEMORY = "4G"
CPUS = "2"

INIT = r"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /lower /upper /new
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
end() { echo "$1"; reboot -f; }
for m in $(cat /modules/order); do insmod /modules/$m || end "cannot load $m"; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=512000 host /lower || end "cannot mount the host's files"
mount -t tmpfs -o size=75% tmpfs /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work overlay /new || end "cannot mount the overlay"
for d in proc sys dev; do mount --move /$d /new/$d; done
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts devpts /new/dev/pts
mount -t tmpfs -o mode=1777 tmpfs /new/dev/shm
mount -t tmpfs -o mode=1777 tmpfs /new/tmp
mount -t tmpfs tmpfs /new/run
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
ln -sf /proc/self/fd /new/dev/fd
hostname machine
ip link set lo up
cp /command /new/run/command
[ ! -e /service ] || { mkdir -p /new/run/systemd/system; cp /service /new/run/systemd/system/command.service; }
exec switch_root /new INIT
"""
SHELL = "/bin/sh /run/command"
SYSTEMD = "/lib/systemd/systemd"
SERVICE = """[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
ExecStart=%s
""" % SHELL

COMMAND = r"""
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 MACHINE_ACCEL={accel}
cd {here}
ulimit -n 65536
({command}) </dev/null
echo "{mark} $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
"""


def fail(text):
    print("machine.py: " + text, file=sys.stderr)
    sys.exit(125)


def fetch(package, keep):
    """The package's files, unpacked."""
    to = os.path.join(keep, package)
    if not glob.glob(to + "/boot/vmlinuz-*"):
        os.makedirs(to, exist_ok=True)
        try:
            subprocess.run(["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package], cwd=keep, check=True)
            deb = max(glob.glob("%s/%s_*.deb" % (keep, package)), key=os.path.getmtime)
            subprocess.run(["dpkg", "-x", deb, to], check=True)
            os.unlink(deb)
        except (OSError, ValueError, subprocess.CalledProcessError) as e:
            fail("cannot fetch the kernel '%s': %s" % (package, e))
    return to


def newest(name):
    """The package that a name of many, as linux-image-amd64, means."""
    said = subprocess.run(["apt-cache", "depends", "--important", name], capture_output=True, text=True).stdout
    found = re.search(r"Depends: (linux-image-\d\S*)", said)
    return found.group(1) if found else name


def needs(path):
    """Which modules one needs, by its own word."""
    with open(path, "rb") as f:
        found = re.search(rb"\0depends=([^\0]*)\0", f.read())
    return [m for m in found.group(1).decode().split(",") if m] if found else []


def modules_of(kernel):
    """Files, each after those that it needs."""
    there = {}
    for root in ("lib/modules", "usr/lib/modules"):
        for p in glob.glob(os.path.join(kernel, root, "**/*.ko"), recursive=True):
            there[os.path.basename(p)[:-3].replace("-", "_")] = p
    order = []

    def add(name):
        path = there.get(name.replace("-", "_"))
        if path and path not in order: # what is not there is built in
            for m in needs(path):
                add(m)
            order.append(path)

    for m in MODULES:
        add(m)
    return order


class Archive:
    """What the kernel unpacks as its first root: "newc", see cpio(5)."""

    def __init__(self):
        self.bytes, self.count = bytearray(), 0

    def add(self, name, mode, data=b""):
        self.count += 1
        head = [self.count, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        self.bytes += b"070701" + b"".join(b"%08x" % n for n in head) + name.encode() + b"\0"
        self.pad()
        self.bytes += data
        self.pad()

    def pad(self):
        self.bytes += b"\0" * (-len(self.bytes) % 4)

    def end(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.bytes)


def first_root(kernel, command, systemd):
    a = Archive()
    for d in ("bin", "modules"):
        a.add(d, 0o040755)
    busybox = next((b for b in BUSYBOX if os.path.exists(b)), None) or fail("there is no static busybox")
    a.add("bin/busybox", 0o100755, open(busybox, "rb").read())
    order = modules_of(kernel)
    for m in order:
        a.add("modules/" + os.path.basename(m), 0o100644, open(m, "rb").read())
    a.add("modules/order", 0o100644, "\n".join(map(os.path.basename, order)).encode())
    start = SYSTEMD + " --unit=command.service --show-status=no --log-target=null" if systemd else SHELL
    a.add("init", 0o100755, INIT.replace("INIT", start).encode())
    if systemd:
        a.add("service", 0o100644, SERVICE.encode())
    a.add("command", 0o100644, command.encode())
    return a.end()


def run(kernel, initrd, mark, accel):
    """The machine's console up to the mark; its status."""
    image = max(glob.glob(kernel + "/boot/vmlinuz-*"), default=None) or fail("there is no kernel in '%s'" % kernel)
    argv = ["qemu-system-x86_64", "-accel", accel, "-cpu", "max", "-smp", CPUS, "-m", MEMORY,
            "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot", "-nic", "none",
            "-kernel", image, "-initrd", initrd, "-append", "console=ttyS0 loglevel=1 panic=-1",
            "-fsdev", "local,id=host,path=/,security_model=none,readonly=on,multidevs=remap",
            "-device", "virtio-9p-pci,fsdev=host,mount_tag=host"]
    status = 125
    try:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except OSError as e:
        fail("cannot start qemu-system-x86_64: %s" % e)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(status))
    try:
        for line in p.stdout:
            text = line.decode(errors="replace").rstrip("\r\n")
            if text.startswith(mark):
                status = int(text[len(mark):])
                break
            print(text, flush=True)
    finally:
        p.kill()
        p.wait()
    return status


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--accel", default="tcg")
    p.add_argument("--keep", default="build/machine")
    p.add_argument("--systemd", action="store_true")
    p.add_argument("kernel")
    p.add_argument("command", nargs=argparse.REMAINDER)
    a = p.parse_args()
    if a.systemd and not os.path.exists(SYSTEMD):
        fail("there is no " + SYSTEMD)
    kernel = a.kernel if os.path.isdir(a.kernel) else fetch(newest(a.kernel), os.path.abspath(a.keep))
    mark = "%016x ended" % random.getrandbits(64)
    command = COMMAND.format(here=shlex.quote(os.getcwd()), mark=mark, accel=a.accel, command=shlex.join(a.command))
    with tempfile.NamedTemporaryFile(prefix="machine.") as initrd:
        initrd.write(first_root(kernel, command, a.systemd))
        initrd.flush()
        sys.exit(run(kernel, initrd.name, mark, a.accel))


if __name__ == "__main__":
    main()
