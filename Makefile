# A thin front to CMake: what a user types, and what CI types.
.POSIX:
PACKAGES = build-essential clang cmake ninja-build pkg-config python3 scdoc man-db \
	libzmq3-dev libmsgpack-dev libev-dev libcmocka-dev libseccomp-dev libxxhash-dev libsqlite3-dev libssl-dev libmicrohttpd-dev \
	busybox-static gawk iproute2 jq lua5.4 mawk netpbm sqlite3 zstd
JOBS = 2
# Tests wait for more than half of their time.
TEST_JOBS = 5

.PHONY: all deps programs tables demo test alike tangle bench growth hosts kernel fuzz fuzz-wall compare graphs classes killed bounded fault submitted lies install clean

# PREFIX is where `make install` will put it: the program looks for its helper there.
all:
	cmake --preset release $(if $(PREFIX),-DCMAKE_INSTALL_PREFIX=$(PREFIX)) >/dev/null
	cmake --build --preset release -j $(JOBS)

# Installs from the distribution what is missing, and nothing when nothing is.
deps:
	@share/deps.sh $(PACKAGES)

DEMO = cat examples/book.txt | tr -cs A-Za-z "\n" | tr A-Z a-z | sort | uniq -c | sort -rn | head -5
demo: deps all
	@printf '%s\n' "$$ zpipe '"'$(DEMO)'"'"
	@build/release/bin/zpipe '$(DEMO)'

# Warnings are errors, with gcc and clang, optimised and not; the tests run with sanitizers, thousands of random pipelines and a large one optimised.
test: deps
	cmake --preset clang >/dev/null
	cmake --build --preset clang -j $(JOBS)
	cmake --preset release >/dev/null
	cmake --build --preset release -j $(JOBS)
	cmake --preset asan >/dev/null
	cmake --build --preset asan -j $(JOBS)
	ctest --preset asan -j $(TEST_JOBS)
	ctest --preset release -j $(TEST_JOBS)

# The long form of a test that `make test` runs in short: ten thousand tasks, and nothing is left behind.
soak: deps
	cmake --preset dev >/dev/null
	cmake --build --preset dev -j $(JOBS)
	SOAK_TASKS=10000 ctest --preset dev -R box_soak -V

# Random commands and real programs, started anew and as clones of templates: the same bytes.
alike: deps
	cmake --preset dev >/dev/null
	cmake --build --preset dev -j $(JOBS)
	ALIKE_SEED=$(SEED) ALIKE_COUNT=3000 ctest --preset dev -R box_alike -V
	tests/e2e/programs.py --bin build/dev/bin --static build/dev/tests/no-libc --clones

# Thousands of random programs of processes and threads, each twice: what is certified is the same.
tangle: deps all
	tests/e2e/tangle.py --box build/release/bin/zpipe-box --tangle build/release/tests/tangle --seeds 2000 --first $(SEED)

bench: deps all
	python3 bench/run.py build/release/bin/zpipe
	ZPIPE_BOX=build/release/bin/zpipe-box build/release/bench/start
	build/release/bench/floor
	python3 bench/steady.py build/release/bin/zpipe-box
	python3 bench/serve.py build/release/bin/zpipe
	python3 bench/tasks.py build/release/bin/zpipe
	build/release/bench/core
	build/release/bench/stream
	python3 bench/cluster.py build/release/bin/zpipe

# What a megabyte costs at 10 MB to 10 GB (which takes 40 GB of disk in TMPDIR), and what a task costs where there are 10 to 100,000;
# GROWTH_BYTES, GROWTH_TASKS and GROWTH_RUNS say otherwise.
growth: deps all
	python3 bench/growth.py build/release/bin/zpipe

fuzz: deps
	cmake --preset fuzz >/dev/null
	cmake --build --preset fuzz -j $(JOBS)
	tests/fuzz/run.sh build/fuzz $(FUZZ_SECONDS)

# System calls at random inside sandboxes; the seed is printed, WALL_SEED repeats it.
fuzz-wall: deps all
	python3 tests/e2e/wall.py --bin build/release/bin --probe build/release/tests/wall_probe --refuse build/release/tests/refuse \
		--fuzz build/release/tests/wall_fuzz --seconds $(FUZZ_SECONDS) $(if $(WALL_SEED),--seed $(WALL_SEED))

FUZZ_SECONDS = 60

# Every row of the tables: embedded and over two workers, as root and as somebody, cut and not.
tables: deps all
	for user in "" "--user 20017"; do for split in "" "--split always,64K"; do for where in "" --cluster; do \
		tests/e2e/run.py --bin build/release/bin $$user $$split $$where || exit 1; done; done; done

# Real programs, twenty times inside on a busy machine, as root and as somebody.
programs: deps all
	for user in "" "--user 20017"; do tests/e2e/programs.py --bin build/release/bin --static build/release/tests/no-libc --runs 20 $$user || exit 1; done

# Random pipelines against sh: the same seed, the same pipelines.
compare: deps all
	tests/e2e/run.py --bin build/release/bin --random $(COUNT) --seed $(SEED)

# Random graphs and job files in which pipelines part and meet again.
graphs: deps all
	build/release/bin/graphs $(SEED) 500
	tests/e2e/run.py --bin build/release/bin --edges 250 --seed $(SEED)
	tests/e2e/run.py --bin build/release/bin --edges 250 --seed $(SEED) --cluster

# Forms of the table of commands in many blocks, on many inputs, for FOR seconds: all of them take an hour.
FOR = 1200
classes: deps all
	python3 tests/e2e/classes.py build/release/tests/split_tool --seed $(SEED) --rounds 5 --seconds $(FOR)

COUNT = 1000
SEED = 1

# Every row over four hosts, which are network namespaces: only root can.
hosts: deps all
	tests/e2e/run.py --bin build/release/bin --hosts
	tests/e2e/run.py --bin build/release/bin --hosts --slots 2 --split always,64K

# The sandbox on another kernel of the distribution, in a machine without cgroups of anybody else's: QEMU, and ten times as slow.
# KERNEL is a package (linux-image-amd64), or a directory that one was unpacked to.  ROWS are some of tests/lib/kernel.sh's, instead of all.
KERNEL = linux-image-amd64
ROWS =
kernel: deps all
	@share/deps.sh qemu-system-x86
	tests/lib/machine.py $(KERNEL) tests/lib/kernel.sh build/release $(ROWS)
	tests/lib/machine.py --systemd $(KERNEL) tests/lib/systemd.sh build/release

# Submitted jobs while everybody is killed, and with journals that are damaged, more often than `make test` does it.
submitted: deps all
	tests/e2e/submitted.py --bin build/release/bin --rounds 10 --seed $(SEED)

# Sandboxes at work are killed and held up, at every width; every row of the tables, too.  Then each process of a cluster, at each stage of a job,
# and clients whose host is gone, or that are stopped for longer than anybody else may be gone.
killed: deps all
	tests/e2e/killed.py --bin build/release/bin --all --rows --seed $(SEED)
	tests/e2e/killed_cluster.py --bin build/release/bin --all --seed $(SEED)
	tests/e2e/killed_cluster.py --bin build/release/bin --all --hosts --seed $(SEED)
	tests/e2e/gone.py --bin build/release/bin || test $$? = 77
	tests/e2e/cluster.py --bin build/release/bin --stopped 70 a_client_is_killed_and_another_is_stopped

# Clients, workers, schedulers and keepers that lie about one field of what they send, with sanitizers: each seventh lie, and SEED says which.
lies: deps
	cmake --preset asan >/dev/null
	cmake --build --preset asan -j $(JOBS)
	for who in clients askers workers schedulers keepers; do tests/e2e/lies.py --bin build/asan/bin --step 7 --first $$(($(SEED) % 7)) $$who || exit 1; done

# Jobs over 20 GB, which come from a pipe: zpipe itself stays under 256 MB.  TMPDIR is where they spill to.
bounded: deps all
	tests/e2e/bounded.py --bin build/release/bin --bytes 20e9

# Each allocation fails once, with sanitizers.
fault: deps
	cmake --preset asan >/dev/null
	cmake --build --preset asan -j $(JOBS)
	tests/e2e/memory.py --bin build/asan/bin --faulty build/asan/fault

install: all
	cmake --install build/release

clean:
	rm -rf build
