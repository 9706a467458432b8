"""A stand-in for two services on 127.0.0.1:8085: one answers JSON, one sends events."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8085
VERDICTS = {"198.51.100.7": 0.93}
WORDS = ("looking", "comparing", "done")


class Handler(BaseHTTPRequestHandler):
    """POST /v1/enrich scores an address, POST /v1/block notes it, GET /v1/events streams."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer JSON."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/enrich":
            self.answer({"ip": asked["ip"], "risk": VERDICTS.get(asked["ip"], 0.1)})
        elif self.path == "/v1/block":
            self.answer({"blocked": asked["ip"], "once": self.headers["idempotency-key"]})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        """Send three events, a third of a second apart."""
        if self.path.partition("?")[0] != "/v1/events":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for number, word in enumerate(WORDS):
            self.wfile.write(f"id: {number}\ndata: {json.dumps({'step': word})}\n\n".encode())
            self.wfile.flush()
            time.sleep(0.3)

    def answer(self, value: object) -> None:
        """Send a JSON body."""
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
