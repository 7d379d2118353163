"""The history of an object in Django's admin."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import ModelAdmin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse

from pyhist.django.models import RecordedEvent

PAGE = 100


class HistoryAdmin(ModelAdmin):
    """A `ModelAdmin` whose History button shows what happened to the object in the database, by whom and why.

    It shows that to whoever may view the object, and changes nothing.
    """

    object_history_template = "pyhist/object_history.html"

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponseBase:
        """Is called by Django's admin."""
        instance = self.get_object(request, unquote(object_id))
        if instance is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)
        if not self.has_view_or_change_permission(request, instance):
            raise PermissionDenied
        events = RecordedEvent.objects.using(type(instance).objects.db).of(instance)
        page = Paginator(events, PAGE).get_page(request.GET.get("p", 1))
        context = {
            **self.admin_site.each_context(request),
            "title": f"History: {instance}",
            "subtitle": None,
            "page": page,
            "object": instance,
            "opts": self.opts,
            "module_name": str(self.opts.verbose_name_plural),
            "preserved_filters": self.get_preserved_filters(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, self.object_history_template, context)
