"""The demo's three tool services, each a process of its own over a SQLite file: inventory, suppliers, pricing.

They know nothing of Sidegate. Each accepts only calls that bring its service token, which the agent never sees.
Run: python services.py NAME --port PORT --database FILE --token-file FILE
"""

import argparse
import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

PARTS = ("bearing", "gasket", "valve", "pump", "sensor", "cable", "filter", "bracket")
DATABASE = web.AppKey("database", sqlite3.Connection)
TOKEN = web.AppKey("token", str)


@web.middleware
async def authenticated(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if request.headers.get("authorization") != f"Bearer {request.app[TOKEN]}":
        return web.json_response({"error": "who are you?"}, status=401)
    return await handler(request)


def row(request: web.Request, query: str, *values: object) -> dict[str, object] | None:
    found = request.app[DATABASE].execute(query, values).fetchone()
    return None if found is None else dict(found)


def found_or_404(record: dict[str, object] | None) -> web.Response:
    return web.json_response({"error": "not found"}, status=404) if record is None else web.json_response(record)


# inventory ------------------------------------------------------------------------------------------------------------


def fill_inventory(database: sqlite3.Connection, chance: random.Random) -> None:
    database.execute("CREATE TABLE stock (sku TEXT PRIMARY KEY, part TEXT, on_hand INT, reserved INT, warehouse TEXT)")
    rows = [
        (f"SKU-{n}", PARTS[n % len(PARTS)], chance.randrange(0, 900), chance.randrange(0, 90), f"W{n % 3 + 1}")
        for n in range(1, 301)
    ]
    database.executemany("INSERT INTO stock VALUES (?, ?, ?, ?, ?)", rows)


async def stock(request: web.Request) -> web.Response:
    return found_or_404(row(request, "SELECT * FROM stock WHERE sku = ?", request.match_info["sku"]))


async def stocktake(request: web.Request) -> web.Response:
    """A full count takes far longer than anybody waits."""
    await asyncio.sleep(30)
    return web.json_response({"warehouse": request.match_info["warehouse"], "counted": True})


# suppliers ------------------------------------------------------------------------------------------------------------


def fill_suppliers(database: sqlite3.Connection, chance: random.Random) -> None:
    database.execute(
        "CREATE TABLE suppliers (supplier_id TEXT PRIMARY KEY, name TEXT, payment_days INT, discount REAL, weekly_capacity INT)"
    )
    rows = [
        (
            f"SUP-{n}",
            f"Supplier {n} Ltd",
            chance.choice((14, 30, 60)),
            round(chance.random() / 5, 3),
            chance.randrange(50, 900),
        )
        for n in range(1, 121)
    ]
    database.executemany("INSERT INTO suppliers VALUES (?, ?, ?, ?, ?)", rows)
    database.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY, supplier_id TEXT, sku TEXT, quantity INT)")


async def terms(request: web.Request) -> web.Response:
    query = "SELECT supplier_id, name, payment_days, discount FROM suppliers WHERE supplier_id = ?"
    return found_or_404(row(request, query, request.match_info["supplier"]))


async def capacity(request: web.Request) -> web.Response:
    query = "SELECT supplier_id, weekly_capacity FROM suppliers WHERE supplier_id = ?"
    return found_or_404(row(request, query, request.match_info["supplier"]))


async def rating(_: web.Request) -> web.Response:
    """Answers 200 though it failed, as too many services do."""
    return web.json_response({"ok": False, "error": "rating engine is not configured"})


async def order(request: web.Request) -> web.Response:
    wanted = await request.json()
    cursor = request.app[DATABASE].execute(
        "INSERT INTO orders (supplier_id, sku, quantity) VALUES (?, ?, ?)",
        (wanted["supplier_id"], wanted["sku"], wanted["quantity"]),
    )
    request.app[DATABASE].commit()
    return web.json_response({"order": cursor.lastrowid, "sku": wanted["sku"], "quantity": wanted["quantity"]})


# pricing --------------------------------------------------------------------------------------------------------------


def fill_pricing(database: sqlite3.Connection, chance: random.Random) -> None:
    database.execute("CREATE TABLE prices (sku TEXT PRIMARY KEY, list_price REAL, floor_price REAL, currency TEXT)")
    rows = []
    for n in range(1, 301):
        price = round(5 + chance.random() * 400, 2)
        rows.append((f"SKU-{n}", price, round(price * 0.71, 2), "EUR"))
    database.executemany("INSERT INTO prices VALUES (?, ?, ?, ?)", rows)


async def price(request: web.Request) -> web.Response:
    request.app[DATABASE].execute("CREATE TABLE IF NOT EXISTS reads (sku TEXT)")
    request.app[DATABASE].execute("INSERT INTO reads VALUES (?)", (request.match_info["sku"],))
    request.app[DATABASE].commit()
    return found_or_404(row(request, "SELECT * FROM prices WHERE sku = ?", request.match_info["sku"]))


SERVICES = {
    "inventory": (
        fill_inventory,
        [("GET", "/stock/{sku}", stock), ("POST", "/warehouses/{warehouse}/stocktake", stocktake)],
    ),
    "suppliers": (
        fill_suppliers,
        [
            ("GET", "/suppliers/{supplier}/terms", terms),
            ("GET", "/suppliers/{supplier}/capacity", capacity),
            ("GET", "/suppliers/{supplier}/rating", rating),
            ("POST", "/orders", order),
        ],
    ),
    "pricing": (fill_pricing, [("GET", "/prices/{sku}", price)]),
}


def application(name: str, path: Path, token: str) -> web.Application:
    fill, routes = SERVICES[name]
    fresh = not path.exists()
    database = sqlite3.connect(path)
    database.row_factory = sqlite3.Row
    if fresh:
        fill(database, random.Random(name))
        database.commit()
    app = web.Application(middlewares=[authenticated])
    app[DATABASE], app[TOKEN] = database, token
    for method, route, handler in routes:
        app.router.add_route(method, route, handler)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=SERVICES)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database", type=Path, required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    args = parser.parse_args()
    app = application(args.name, args.database, args.token_file.read_text().strip())
    web.run_app(app, host="127.0.0.1", port=args.port, print=None, access_log=None, shutdown_timeout=0.5)


if __name__ == "__main__":
    main()
