"""Users, and products with their history."""

import sqlalchemy
from alembic import op

from pyhist import History

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "users",
        sqlalchemy.Column("username", sqlalchemy.String(), primary_key=True),
        sqlalchemy.Column("salt", sqlalchemy.LargeBinary(), nullable=False),
        sqlalchemy.Column("password_hash", sqlalchemy.LargeBinary(), nullable=False),
    )
    op.create_table(
        "product",
        sqlalchemy.Column("id", sqlalchemy.Integer(), primary_key=True),
        sqlalchemy.Column("name", sqlalchemy.String(), nullable=False),
        sqlalchemy.Column("price", sqlalchemy.Numeric(10, 2), nullable=False),
    )
    op.track("product", History("product"))


def downgrade():
    op.untrack("product", History("product"))
    op.drop_table("product")
    op.drop_table("users")
