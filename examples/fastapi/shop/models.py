"""The shop's tables."""

import hashlib
import hmac
import secrets
from decimal import Decimal

from sqlalchemy import Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"

    username: Mapped[str] = mapped_column(primary_key=True)
    salt: Mapped[bytes]
    password_hash: Mapped[bytes]

    @classmethod
    def with_password(cls, username: str, password: str) -> "User":
        salt = secrets.token_bytes(16)
        return cls(username=username, salt=salt, password_hash=hashed(password, salt))

    def has_password(self, password: str) -> bool:
        return hmac.compare_digest(self.password_hash, hashed(password, self.salt))


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))


def hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)
