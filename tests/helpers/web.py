"""A web service on this machine, for as long as a test needs it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch


@contextmanager
def serving(answer: Callable[[Any], tuple[int, dict[str, Any]]]) -> Iterator[str]:
    """The address of a service that answers {"x": rows} with the status and the JSON that `answer(rows)` returns."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            x = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["x"]
            with torch.no_grad():
                status, told = answer(x)
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the test's output is not a server's log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
