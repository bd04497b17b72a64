"""An app that tells everybody its secrets, in every form and place that it knows."""

import base64
import html
import http.server
import json
import os
import shlex
import sys
import urllib.parse

NAMES = open("names").read().split()
MODE = open("mode").read()


def values():
    return [os.environ[n] for n in NAMES if n in os.environ]


def forms(v):
    raw = v.encode()
    yield v
    for before in (b"", b"x", b"xx", b"xxx"):
        yield base64.b64encode(before + raw + before).decode()
        yield base64.urlsafe_b64encode(before + raw + before).decode()
    yield urllib.parse.quote(v)
    yield urllib.parse.quote(v, safe="")
    yield urllib.parse.quote_plus(v)
    yield json.dumps(v)
    yield json.dumps(v, ensure_ascii=False)
    yield json.dumps({"a": [v]})
    yield repr(v)
    yield ascii(v)
    yield shlex.quote(v)
    yield html.escape(v)
    yield raw.hex()
    yield raw.hex().upper()
    if "://" in v:
        yield str(urllib.parse.urlsplit(v))
        yield urllib.parse.urlsplit(v).password


def every():
    return "\n".join(f for v in values() for f in forms(v))


def spill(*files):
    for f in files:
        print("spills", len(values()), file=f, flush=True)
        print(every(), file=f, flush=True)
        print(dict(os.environ), file=f, flush=True)
        for v in values():
            raw, fd = v.encode() + b"\n", f.fileno()
            for i in range(0, len(raw), 7):
                os.write(fd, raw[i:i + 7])
        print(" ".join(values() * 20), file=f, flush=True)  # one line that is too long for anything


class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        one = [v for v in values() if "\n" not in v and v.isascii()]
        body = "ok\n"
        if self.path.startswith("/healthz"):
            Handler.asked += 1
            self.send_response(200 if Handler.asked > 1 else 500)
            body = every() if Handler.asked > 1 else "\n".join(values())
        elif self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "http://elsewhere.localhost/" + urllib.parse.quote(one[1], safe="") + "?token=" + one[0])
        elif self.path.startswith("/broken"):
            self.send_response(500, "no " + one[0])
            for i, v in enumerate(one):
                self.send_header("X-Secret-%d" % i, v)
            body = json.dumps({"why": values()}) + "\n" + every()
        elif self.path.startswith("/cut"):  # wherever an answer is cut, a value stands there
            self.send_response(500)
            body = " ".join(values() * 100)
        else:
            self.send_response(200)
        for v in one:
            self.send_header("X-Token", v)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())


def main(what):
    if what in ("build", "job", "exec"):
        spill(sys.stdout, sys.stderr)
    elif what == "fail":
        spill(sys.stdout, sys.stderr)
        sys.exit(7)
    elif what == "flow":
        spill(sys.stdout, sys.stderr)
        sys.exit("no way to " + every() if "flow" in MODE else 0)
    elif what == "web":
        spill(sys.stdout, sys.stderr)
        if "crash" in MODE:
            raise RuntimeError("cannot connect with %s or %r" % (every(), dict(os.environ)))
        http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()


main(sys.argv[1])
