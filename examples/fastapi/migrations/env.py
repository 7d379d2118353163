"""How migrations run: on the application's database, with pghistory's operations."""

from alembic import context
from sqlalchemy import create_engine

import pyhist.alembic
from shop.models import Base

engine = create_engine("postgresql+psycopg://")  # what it leaves out is in libpq's environment

with engine.begin() as connection:
    context.configure(connection, target_metadata=Base.metadata, include_object=pyhist.alembic.include_object)
    context.run_migrations()
