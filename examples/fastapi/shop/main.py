"""The application: users log in, change products, and read who changed what."""

import secrets
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request, status
from pydantic import BaseModel, ConfigDict
from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import REGCLASS
from starlette.middleware.sessions import SessionMiddleware

import pyhist
from pyhist.asgi import HistoryMiddleware
from shop.database import Session
from shop.models import Product, User

app = FastAPI(title="A shop with a history")
app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex())
app.add_middleware(HistoryMiddleware)


class Credentials(BaseModel):
    username: str
    password: str


class Price(BaseModel):
    price: Decimal


class NewProduct(Price):
    name: str


class ShownProduct(NewProduct):
    model_config = ConfigDict(from_attributes=True)

    id: int


class Change(BaseModel):
    when: datetime
    who: str | None
    why: dict[str, Any]
    operation: str
    changed: dict[str, Any] | None


async def authenticate(request: Request) -> None:
    """Let only users in, and have what they change know them."""
    username = request.session.get("username")
    if username is None:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Log in first: POST /login")
    pyhist.context(user=username)


async def get_product(number: int, session: Session) -> Product:
    product = await session.get(Product, number)
    if product is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND)
    return product


users_only = [Depends(authenticate)]
NamedProduct = Annotated[Product, Depends(get_product)]


@app.post("/login", status_code=status.HTTP_204_NO_CONTENT)
async def log_in(credentials: Credentials, request: Request, session: Session) -> None:
    user = await session.get(User, credentials.username)
    if user is None or not user.has_password(credentials.password):
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "Wrong name or password")
    request.session["username"] = user.username


@app.get("/products", response_model=list[ShownProduct])
async def list_products(session: Session) -> Any:
    return await session.scalars(select(Product).order_by(Product.id))


@app.post("/products", dependencies=users_only, response_model=ShownProduct)
async def add_product(new: NewProduct, session: Session) -> Any:
    product = Product(name=new.name, price=new.price)
    session.add(product)
    await session.commit()
    return product


@app.patch("/products/{number}", dependencies=users_only, response_model=ShownProduct)
async def change_price(product: NamedProduct, new: Price, session: Session) -> Any:
    product.price = new.price
    await session.commit()
    return product


@app.delete("/products/{number}", dependencies=users_only, status_code=status.HTTP_204_NO_CONTENT)
async def remove_product(product: NamedProduct, session: Session) -> None:
    await session.delete(product)
    await session.commit()


@app.get("/products/{number}/history", dependencies=users_only)
async def read_history(number: int, session: Session) -> list[Change]:
    """Who did what to a product, which may be gone; the last change first."""
    events = func.pghistory.events(
        cast(Product.__tablename__, REGCLASS), cast(str(number), Text)
    ).table_valued("pgh_created_at", "pgh_operation", "pgh_diff", "pgh_context")
    return [
        Change(
            when=event.pgh_created_at,
            who=(event.pgh_context or {}).get("user"),
            why=event.pgh_context or {},
            operation={"I": "added", "U": "changed", "D": "removed"}[event.pgh_operation],
            changed=event.pgh_diff,
        )
        for event in await session.execute(select(events))
    ]
