"""A shop in which every change of a product knows who made it: `make example-django`, or what start.sh does.

The database is libpq's (PGHOST, PGDATABASE and so on), and has the extension: `pyhist install`.
"""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
    execute_from_command_line(sys.argv)
