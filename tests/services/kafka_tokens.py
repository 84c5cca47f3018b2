"""A small OpenID provider: signed tokens for who knows the secret, and the key that the broker checks them with."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote_plus

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ISSUER, AUDIENCE = "https://tokens.test", "kafka"
CLIENT, SECRET = "lake", "an open secret"


class Tokens:
    """`url` answers client_credentials with a token of `seconds` seconds; `given` counts them."""

    def __init__(self, seconds=3600):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.seconds, self.given = seconds, 0
        tokens = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self):
                tokens.answer(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request):
        body = request.rfile.read(int(request.headers.get("Content-Length", 0))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        # RFC 6749, section 2.3.1: both are encoded as in a form.
        basic = base64.b64encode(f"{quote_plus(CLIENT)}:{quote_plus(SECRET)}".encode()).decode()
        known = request.headers.get("Authorization") == f"Basic {basic}"
        known = known or (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        if known and form.get("grant_type") == "client_credentials":
            self.given += 1
            status, says = 200, {"access_token": self.token(), "token_type": "Bearer", "expires_in": self.seconds}
        else:
            status, says = 401, {"error": "invalid_client"}
        data = json.dumps(says).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def token(self):
        """A JWT, signed by RS256."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": CLIENT, "scope": "kafka", "iat": now, "exp": now + self.seconds}
        head = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        text = f"{coded(json.dumps(head).encode())}.{coded(json.dumps(claims).encode())}"
        return f"{text}.{coded(self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def jwks(self):
        """The public half, as brokers read it."""
        numbers = self.key.public_key().public_numbers()
        n, e = (coded(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in [numbers.n, numbers.e])
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": n, "e": e}
        return json.dumps({"keys": [key]})


def coded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
