"""Django: the context of requests, trackers in migrations, events as models.

`"pyhist.django"` in `INSTALLED_APPS` has every connection to PostgreSQL carry what `pyhist.context` says;
`"pyhist.django.HistoryMiddleware"` in `MIDDLEWARE` has it say who asks for what; `Track` and `Untrack` are
operations of migrations.
"""

from pyhist.django.events import event_model
from pyhist.django.middleware import HistoryMiddleware
from pyhist.django.operations import Track, Untrack

__all__ = ["HistoryMiddleware", "Track", "Untrack", "event_model"]
