"""Cases of a test program, each a function that raises what is wrong, in a directory of its own or in one for all:
PROGRAM --bin DIR [CASE...]"""
import argparse, os, signal, sys, tempfile

# A shell ignores it for what it starts in the background, and what a test starts and interrupts would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

arguments = argparse.ArgumentParser()
arguments.add_argument("--bin", required=True)
arguments.add_argument("case", nargs="*")
cases = []


def case(f):
    cases.append(f)
    return f


def zpipe_of(args):
    return os.path.join(os.path.abspath(args.bin), "zpipe")


def run_one(f, failed_too):
    try:
        print("ok    ", f.__name__, f() or "")
        return True
    except Exception as e:
        print("FAIL  ", f.__name__, "-", type(e).__name__, str(e)[:2000])
        failed_too()
        return False
    finally:
        sys.stdout.flush()


def run_cases(args, prepare=None, failed_too=lambda: None):
    """prepare: fills one directory for all cases; without it each has an empty one.  Ends the program."""
    results = []
    with tempfile.TemporaryDirectory(prefix="zpipe-cases-") as d:
        if prepare:
            prepare(d)
        for f in cases:
            if args.case and f.__name__ not in args.case:
                continue
            with tempfile.TemporaryDirectory(dir=d) as own:
                os.chdir(d if prepare else own)
                results.append(run_one(f, failed_too))
                os.chdir("/")
    print("%d passed, %d failed" % (sum(results), len(results) - sum(results)))
    sys.exit(0 if results and all(results) else 1)
