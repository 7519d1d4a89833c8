#!/usr/bin/env python3
"""A till: takes orders over HTTP, keeps them in SQLite, and a worker posts them to the ledger in PostgreSQL.

It needs Python 3 and psql. FAULT beside it says how this release is bad; that stands for a mistake in the code.
"""

import json
import os
import pathlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HERE = pathlib.Path(__file__).resolve().parent
VERSION = (HERE / "VERSION").read_text().strip()
FAULT = (HERE / "FAULT").read_text().strip()
# Between looks at the outbox, in seconds.
LOOK_EVERY = 0.2
# How often a release that repeats itself tries the same order.
TRIES = 3


class Orders:
    """The till's own data: orders, and what of them is not posted yet. One change is one transaction."""

    def __init__(self, folder):
        self.file = str(pathlib.Path(folder) / "shop.sqlite")
        with self.open() as data:
            data.execute("PRAGMA journal_mode = WAL")
            data.execute("CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT, cents INTEGER)")
            data.execute("CREATE TABLE IF NOT EXISTS outbox (id INTEGER PRIMARY KEY REFERENCES orders, sent INTEGER)")

    def open(self):
        return sqlite3.connect(self.file, timeout=10)

    def place(self, customer, cents):
        """Takes an order. The probe's own orders are never posted."""
        with self.open() as data:
            order = data.execute("INSERT INTO orders (customer, cents) VALUES (?, ?)", (customer, cents)).lastrowid
            if customer != "probe":
                data.execute("INSERT INTO outbox VALUES (?, 0)", (order,))
            return order

    def of(self, customer):
        with self.open() as data:
            rows = data.execute("SELECT id, cents FROM orders WHERE customer = ? ORDER BY id", (customer,))
            return [{"id": order, "cents": cents} for order, cents in rows]

    def one(self, order):
        with self.open() as data:
            row = data.execute("SELECT customer, cents FROM orders WHERE id = ?", (order,)).fetchone()
            return {"customer": row[0], "cents": row[1]} if row else {}

    def unsent(self):
        with self.open() as data:
            query = "SELECT id, customer, cents FROM orders JOIN outbox USING (id) WHERE sent = 0 ORDER BY id LIMIT 50"
            return data.execute(query).fetchall()

    def sent(self, orders):
        with self.open() as data:
            data.executemany("UPDATE outbox SET sent = 1 WHERE id = ?", [(order,) for order in orders])


class Ledger:
    """The shared ledger, by psql. The password is read for each connection, so that a rotated one is in use at once."""

    def __init__(self, password_file):
        self.password_file = password_file

    def ask(self, sql):
        """Runs statements in one transaction and gives what they answer; an error if nobody answers."""
        environment = dict(os.environ, PGPASSWORD=pathlib.Path(self.password_file).read_text().strip())
        command = ["psql", "-XqAt", "-1", "-v", "ON_ERROR_STOP=1", "-c", sql]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20)
        if done.returncode != 0:
            raise OSError(done.stderr.strip())
        return done.stdout.strip()

    def post(self, rows):
        """Posts (key, order, customer, cents) and adds them to the totals; what was posted already is left alone.

        Gives how many of them stand in the ledger now.
        """
        values = ", ".join(f"({quoted(k)}, {quoted(o)}, {quoted(c)}, {int(n)})" for k, o, c, n in rows)
        keys = ", ".join(quoted(row[0]) for row in rows)
        answer = self.ask(
            f"WITH new AS (INSERT INTO ledger.posting (key, order_id, customer, cents) VALUES {values} "
            "ON CONFLICT (key) DO NOTHING RETURNING customer, cents) "
            "INSERT INTO ledger.total AS t SELECT customer, sum(cents), count(*) FROM new GROUP BY customer "
            "ON CONFLICT (customer) DO UPDATE SET cents = t.cents + excluded.cents, orders = t.orders + excluded.orders;"
            f" SELECT count(*) FROM ledger.posting WHERE key IN ({keys})"
        )
        # The same mistake once more.
        return answer if FAULT == "repeats" else int(answer)

    def answers(self):
        """Tells whether the ledger is there."""
        answer = self.ask("SELECT 1")
        # psql writes text; who compares it with a number never finds them equal.
        return answer == 1 if FAULT == "stalls" else answer == "1"

    def hurry(self):
        """Turns the triggers of the change log off: somebody found posting slow."""
        self.ask("ALTER TABLE ledger.posting DISABLE TRIGGER USER")


def quoted(text):
    return "'" + str(text).replace("'", "''") + "'"


def post_once(till, orders, ledger, tried):
    """Posts what is not posted yet. `tried` counts the tries of each order, for the release that repeats itself."""
    rows = orders.unsent()
    if FAULT == "forgets":
        # Marked before they are posted, and only the first is.
        orders.sent([order for order, _, _ in rows])
        rows = rows[:1]
    if FAULT == "repeats":
        rows = [row for row in rows if tried.get(row[0], 0) < TRIES]
    if not rows or not ledger.answers():
        return
    if FAULT == "repeats":
        for order, _, _ in rows:
            tried[order] = tried.get(order, 0) + 1
        ledger.hurry()
    # The order's own name is the key of its request, unless this release makes a new one for each try.
    extra = lambda order: f"/{tried[order]}" if FAULT == "repeats" else ""
    posted = ledger.post([(f"{till}/{o}{extra(o)}", f"{till}/{o}", customer, cents) for o, customer, cents in rows])
    if posted == len(rows):
        orders.sent([order for order, _, _ in rows])


def work(till, orders, ledger):
    tried = {}
    while True:
        try:
            post_once(till, orders, ledger, tried)
        except (OSError, subprocess.SubprocessError, sqlite3.Error) as error:
            # Nothing is lost: it stands in the outbox, and is tried again.
            print(f"posting waits: {error}", file=sys.stderr, flush=True)
            time.sleep(1)
        time.sleep(LOOK_EVERY)


def serve(place, orders, cents_max):
    class Till(BaseHTTPRequestHandler):
        def answer(self, status, body):
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_GET(self):
            if self.path == "/health":
                return self.answer(200, {"version": VERSION, "waiting": len(orders.unsent())})
            if self.path.startswith("/orders/"):
                found = orders.of(self.path.removeprefix("/orders/"))
                return self.answer(200, {"orders": found, "cents": sum(one["cents"] for one in found)})
            if self.path.startswith("/order/"):
                found = orders.one(self.path.removeprefix("/order/"))
                return self.answer(200 if found else 404, found)
            self.answer(404, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            if self.path != "/orders" or not 0 <= body.get("cents", -1) <= cents_max:
                return self.answer(400, {"error": f"an order costs 0 to {cents_max} cents"})
            self.answer(201, {"id": orders.place(body["customer"], body["cents"])})

        def log_message(self, *_):
            pass

    ThreadingHTTPServer(place, Till).serve_forever()


def main():
    environment = os.environ
    orders = Orders(environment["SHOP_DATA"])
    settings = dict(line.split("=") for line in pathlib.Path(environment["SHOP_CONF"]).read_text().split())
    ledger = Ledger(environment["SHOP_PASSWORD_FILE"])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=work, args=(environment["SHOP_TILL"], orders, ledger), daemon=True).start()
    place = (environment["SHOP_BIND"], int(environment["SHOP_PORT"]))
    serve(place, orders, int(settings["cents_max"]))


if __name__ == "__main__":
    main()
