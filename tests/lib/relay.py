"""A network between two ends that is slow, and breaks: a relay of TCP connections, on this machine."""
import random, socket, threading, time


class Relay:
    """Listens on 127.0.0.1 and passes on to (host, port).  Each piece is late by up to `late` seconds, that is what is tried and no
    wait for something.  cut(): every connection there is ends after a few bytes more, in the middle of a message if one comes.
    hold: after so many bytes, both ways together, it stands still, until drop() ends what there is and lets all pass.
    off: whoever comes is sent away, which `refused` counts."""

    def __init__(self, host, port=None, late=0.02, seed=1, hold=None):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.to, self.late, self.chance = (host, port or self.port), late, random.Random(seed)
        self.cuts, self.bytes, self.pairs, self.doomed, self.off, self.refused = 0, 0, [], [], False, 0
        self.hold, self.held, self.lock = hold, threading.Event(), threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return "tcp://127.0.0.1:%d" % self.port

    def accept(self):
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            if self.off:
                here.close()
                self.refused += 1
                continue
            try:
                there = socket.create_connection(self.to)
            except OSError:
                here.close()
                continue
            pair = [here, there]
            self.pairs.append(pair)
            for ends in ((here, there), (there, here)):
                threading.Thread(target=self.pump, args=(pair, *ends), daemon=True).start()

    def pump(self, pair, read, write):
        try:
            while True:
                piece = read.recv(65536)
                if not piece:
                    break
                time.sleep(self.chance.uniform(0, self.late))
                if pair in self.doomed:
                    write.sendall(piece[:len(piece) // 2])
                    self.doomed.remove(pair)
                    self.cuts += 1
                    break
                if not self.pass_on(piece, write):
                    return
        except (OSError, ValueError):
            pass
        for s in pair:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.lock:
            if pair in self.pairs:
                self.pairs.remove(pair)

    def pass_on(self, piece, write):
        """False: no more of it."""
        with self.lock:
            room = len(piece) if self.hold is None else max(0, min(len(piece), self.hold - self.bytes))
            self.bytes += room
        write.sendall(piece[:room])
        if self.hold == self.bytes:
            self.held.set()
        return room == len(piece)

    def drop(self):
        self.hold = None
        for pair in list(self.pairs):
            for s in pair:
                s.close()
        self.pairs = []

    def cut(self):
        self.doomed = list(self.pairs)

    def close(self):
        self.listener.close()
        for pair in list(self.pairs):
            for s in pair:
                s.close()
