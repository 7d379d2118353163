"""A Django project of one application, whose books have a history."""
