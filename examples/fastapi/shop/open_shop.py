"""The first users and products: `python -m shop.open_shop`."""

import asyncio
from decimal import Decimal

import pyhist
from shop.database import engine, open_session
from shop.models import Product, User


async def open_shop() -> None:
    with pyhist.context(reason="opening"):
        async with open_session.begin() as session:
            session.add_all(User.with_password(name, name) for name in ("maya", "tom"))
            session.add(Product(name="tea", price=Decimal(3)))
            session.add(Product(name="coffee", price=Decimal(5)))
    await engine.dispose()


asyncio.run(open_shop())
