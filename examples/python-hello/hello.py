"""A greeting over HTTP, with the standard library alone. Listens on 127.0.0.1:$PORT."""

import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def answer(target):
    """Returns the status and the text for a request target."""
    url = urlsplit(target)
    if url.path == "/healthz":
        return 200, "ok\n"
    if url.path == "/":
        name = parse_qs(url.query).get("name", ["world"])[0]
        return 200, f"hello, {name}\n"
    return 404, "not found\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        status, text = answer(self.path)
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "8080"))), Handler)
    # shutdown() waits for serve_forever(), so it must not be called in the thread that serves.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listens on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
