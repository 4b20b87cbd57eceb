"""A server of objects on this machine whose connections break as a test says."""

import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Serves `objects`; `cut(length)` says after how many bytes of an answer the connection breaks, None for never; it
    stays open, but silent, while `silent` is not set."""

    daemon_threads = True

    def __init__(self, ranges=True, sized=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects, self.ranges, self.sized = {}, ranges, sized
        self.cut, self.status, self.drops, self.requests = lambda length: None, None, 0, []
        self.lock, self.silent = threading.Lock(), threading.Event()
        self.silent.set()

    def url(self, name=""):
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def put(self, name, data):
        self.objects[name] = data
        return self.url(name)

    def handle_error(self, *_):
        """A reader that goes away is no failure."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        server, name, span = self.server, self.path[1:], self.headers.get("Range")
        with server.lock:
            server.requests.append((name, span))
        if server.status or name not in server.objects:
            return self.answer(server.status or 404, b"")
        data = server.objects[name]
        if not (span and server.ranges):
            return self.answer(200, data)
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", span).groups()
        first, last = int(first), min(int(last or len(data) - 1), len(data) - 1)
        if first >= len(data):
            return self.answer(416, b"")
        return self.answer(206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}")

    def answer(self, status, body, span=None):
        self.send_response(status)
        if span:
            self.send_header("Content-Range", span)
        if self.server.sized:
            self.send_header("Content-Length", str(len(body)))
        else:
            self.send_header("Connection", "close")
        self.end_headers()
        with self.server.lock:
            cut = self.server.cut(len(body)) if body else None
            self.server.drops += cut is not None
        self.wfile.write(body[:cut])
        if cut is not None:
            self.wfile.flush()
            self.close_connection = True
            self.server.silent.wait()

    def log_message(self, *_):
        pass


@contextmanager
def serve(**options):
    server = Server(**options)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.silent.set()
        server.shutdown()
        server.server_close()
        thread.join()
