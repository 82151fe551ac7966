"""Workers with few slots, which lend each other theirs, and their scheduler, in a directory of their own."""
import signal, tempfile

from run import Cluster


class Workers(Cluster):
    """The first worker gets what is submitted first: it has the oldest link."""
    def __init__(self, zpipe, count, slots=1, options=()):
        self.dir = tempfile.TemporaryDirectory(prefix="zpipe-workers-")
        super().__init__(zpipe, lambda: None, self.dir.name, workers=count, slots=slots, options=options)

    def __enter__(self):
        return self

    def __exit__(self, *wrong):
        for p in self.started:
            p.send_signal(signal.SIGCONT)
        good = self.stop()
        self.dir.cleanup()
        assert good or wrong[0], "a daemon did not end well"

    def kill(self, worker):
        p = self.started.pop(worker)
        p.kill()
        p.wait()
