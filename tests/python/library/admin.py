"""Its admin."""

from __future__ import annotations

from django.contrib import admin

from library.models import Book
from pyhist.django.admin import HistoryAdmin

admin.site.register(Book, HistoryAdmin)
