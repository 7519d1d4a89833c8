"""The tests that CI runs on a release before it offers it: test_shop.py RELEASE JUNIT-FILE."""

import importlib.util
import pathlib
import sys
import tempfile
import time
import traceback
from xml.sax.saxutils import quoteattr


class Postings(dict):
    """A ledger in memory. 1.2.0 and 2.0.0 pass because of it: it answers with numbers, where psql writes text."""

    def answers(self):
        return True

    def post(self, rows):
        for key, order, customer, cents in rows:
            self.setdefault(key, (order, customer, cents))
        return len(rows)

    def hurry(self):
        pass


def an_order_is_kept(shop, orders):
    orders.place("ann", 250)
    assert orders.of("ann") == [{"id": 1, "cents": 250}]


def an_order_is_posted_once(shop, orders):
    ledger, tried = Postings(), {}
    for cents in (100, 200, 300):
        orders.place("ann", cents)
    for _ in range(3):
        shop.post_once("till", orders, ledger, tried)
    assert sorted(cents for _, _, cents in ledger.values()) == [100, 200, 300], ledger
    assert orders.unsent() == []


TESTS = [an_order_is_kept, an_order_is_posted_once]


def main(release, report):
    module = importlib.util.spec_from_file_location("shop", pathlib.Path(release) / "shop.py")
    shop = importlib.util.module_from_spec(module)
    module.loader.exec_module(shop)
    cases, failed = [], 0
    for test in TESTS:
        why = ""
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(shop, shop.Orders(folder))
            except Exception:
                failed += 1
                why = f"<failure message={quoteattr(traceback.format_exc(limit=0).strip())}/>"
        cases.append(f'<testcase classname="shop" name="{test.__name__}">{why}</testcase>')
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    suite = f'<testsuite name="shop" tests="{len(TESTS)}" failures="{failed}" timestamp="{stamp}">'
    pathlib.Path(report).write_text(f'<?xml version="1.0"?>\n<testsuites>{suite}{"".join(cases)}</testsuite></testsuites>\n')
    return 1 if failed else 0


if __name__ == "__main__":
    sys.dont_write_bytecode = True
    sys.exit(main(*sys.argv[1:]))
