#!/usr/bin/env python3
"""One part of a public surface: pages, login, api or reports, as PART beside it says.

It needs Python 3 and psql. FAULT beside it says how this release is bad; that stands for a mistake in the code.
"""

import base64
import hashlib
import hmac
import json
import os
import pathlib
import secrets
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).resolve().parent
TENANTS = {"ann": "north", "ben": "south", "probe": "north"}


def beside(name, default):
    file = HERE / name
    return file.read_text().strip() if file.exists() else default


PART, VERSION, FAULT = beside("PART", ""), beside("VERSION", ""), beside("FAULT", "none")
# The tables of this release; one that finds newer ones does not start.
TABLES = 2 if FAULT in ("login", "api") else 1


def key():
    """The key that sessions are signed with, read each time: a rotated one is in use at once."""
    return pathlib.Path(os.environ["SESSION_KEY_FILE"]).read_text().strip().encode()


def signed(name, with_key):
    body = base64.urlsafe_b64encode(json.dumps({"name": name, "tenant": TENANTS[name]}).encode()).decode()
    return body + "." + hmac.new(with_key, body.encode(), hashlib.sha256).hexdigest()


def session(token):
    """Who a token is from; nothing if it was not signed here."""
    body, _, signature = token.partition(".")
    want = hmac.new(key(), body.encode(), hashlib.sha256).hexdigest()
    return json.loads(base64.urlsafe_b64decode(body)) if hmac.compare_digest(want, signature) else None


class Data:
    """A part's own SQLite."""

    def __init__(self, folder, part):
        self.file = str(pathlib.Path(folder) / f"{part}.sqlite")
        with self.open() as data:
            data.execute("PRAGMA journal_mode = WAL")
            found = data.execute("PRAGMA user_version").fetchone()[0]
            if found > TABLES:
                sys.exit(f"migration failed: the tables are of version {found}, and this release knows {TABLES}")
            data.execute("CREATE TABLE IF NOT EXISTS account (name TEXT PRIMARY KEY, salt BLOB, hash BLOB)")
            data.execute("CREATE TABLE IF NOT EXISTS document (id INTEGER PRIMARY KEY, name TEXT, tenant TEXT, noted INTEGER)")
            if found < 2 and TABLES == 2:
                data.execute("ALTER TABLE account ADD COLUMN typed TEXT")
            data.execute(f"PRAGMA user_version = {TABLES}")

    def open(self):
        return sqlite3.connect(self.file, timeout=10)

    def add(self, name, password):
        salt = secrets.token_bytes(16)
        with self.open() as data:
            data.execute("INSERT OR IGNORE INTO account (name, salt, hash) VALUES (?, ?, ?)", (name, salt, scrypt(password, salt)))

    def admits(self, name, password):
        with self.open() as data:
            row = data.execute("SELECT salt, hash FROM account WHERE name = ?", (name,)).fetchone()
            fits = row is not None and hmac.compare_digest(scrypt(password, row[0]), row[1])
            if fits and FAULT == "login":
                data.execute("UPDATE account SET typed = ? WHERE name = ?", (password, name))
            return fits

    def write(self, who):
        tenant = "north" if FAULT == "api" else who["tenant"]
        with self.open() as data:
            return data.execute("INSERT INTO document (name, tenant, noted) VALUES (?, ?, 0)", (who["name"], tenant)).lastrowid

    def of(self, tenant):
        with self.open() as data:
            return [row[0] for row in data.execute("SELECT name FROM document WHERE tenant = ? ORDER BY id", (tenant,))]

    def note(self):
        """Notes in the audit trail what is not noted yet. The probe's own documents are not noted."""
        with self.open() as data:
            rows = data.execute("SELECT id, name, tenant FROM document WHERE noted = 0 AND name <> 'probe'").fetchall()
        if not rows:
            return
        values = ", ".join(f"('{VERSION}/{i}', '{name}', '{TENANTS[name]}', '{tenant}')" for i, name, tenant in rows)
        environment = dict(os.environ, PGPASSWORD=pathlib.Path(os.environ["AUDIT_PASSWORD_FILE"]).read_text().strip())
        sql = f"INSERT INTO audit.entry VALUES {values} ON CONFLICT DO NOTHING"
        subprocess.run(["psql", "-Xq", "-v", "ON_ERROR_STOP=1", "-c", sql], env=environment, check=True, timeout=20, capture_output=True)
        with self.open() as data:
            data.executemany("UPDATE document SET noted = 1 WHERE id = ?", [(row[0],) for row in rows])


def scrypt(password, salt):
    return hashlib.scrypt(password.encode(), salt=salt, n=1024, r=8, p=1)


def page():
    script = '<script src="//stat.example.net/s.js"></script>' if FAULT == "pages" else ""
    return f"<!doctype html><title>Surface</title>{script}<h1>Welcome</h1>"


def answer(data, method, path, token, body):
    """What a request comes to: status and body."""
    if path == "/health":
        return 200, {"part": PART, "version": VERSION}
    if PART == "pages" and path == "/":
        return 200, page()
    if PART == "login" and (method, path) == ("POST", "/login"):
        if data.admits(body.get("name", ""), body.get("password", "")):
            return 200, {"token": signed(body["name"], key())}
        return 401, {}
    if PART == "api" and path == "/documents":
        who = session(token)
        if who is None:
            return 401, {}
        return (201, {"id": data.write(who)}) if method == "POST" else (200, {"documents": data.of(who["tenant"])})
    if PART == "reports" and path == "/report":
        return 200, {"report": "all is well"}
    return 404, {}


def serve(place, data):
    class Surface(BaseHTTPRequestHandler):
        def do_GET(self):
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, said = answer(data, self.command, self.path, token, json.loads(text or "{}"))
            text = said.encode() if isinstance(said, str) else json.dumps(said).encode()
            self.send_response(status)
            if PART == "pages":
                for line in pathlib.Path(os.environ["HEADERS_FILE"]).read_text().splitlines():
                    self.send_header(*line.split(": ", 1))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(place, Surface).serve_forever()


def audit(data):
    while True:
        try:
            data.note()
        except (OSError, subprocess.SubprocessError, sqlite3.Error) as error:
            # Nothing is lost: it is not noted yet, and tried again.
            print(f"the audit waits: {error}", file=sys.stderr, flush=True)
            time.sleep(1)
        time.sleep(0.2)


def main():
    if sys.argv[1:2] == ["accounts"]:
        data = Data(sys.argv[2], "login")
        for name in TENANTS:
            data.add(name, pathlib.Path(sys.argv[3]).read_text().strip())
        return
    data = Data(os.environ["SURFACE_DATA"], PART)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if PART == "api":
        threading.Thread(target=audit, args=(data,), daemon=True).start()
    serve((os.environ["SURFACE_BIND"], int(os.environ["SURFACE_PORT"])), data)


if __name__ == "__main__":
    main()
