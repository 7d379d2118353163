"""A shop with FastAPI and SQLAlchemy, in which every change of a product knows who made it."""
