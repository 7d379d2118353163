"""Its views: each writes the book in its path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model, login, logout
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

import pyhist
from library.models import Book


def ok() -> HttpResponse:
    return HttpResponse("ok")


def named(request: HttpRequest) -> Any:
    return get_user_model().objects.get(username=request.headers["user"])


def add(request: HttpRequest, title: str) -> HttpResponse:
    Book.objects.create(title=title)
    return ok()


def log_in(request: HttpRequest, title: str) -> HttpResponse:
    Book.objects.create(title=f"{title}, before")
    login(request, named(request))
    Book.objects.create(title=title)
    return ok()


def log_out(request: HttpRequest, title: str) -> HttpResponse:
    Book.objects.create(title=f"{title}, before")
    logout(request)
    Book.objects.create(title=title)
    return ok()


def late(request: HttpRequest, title: str) -> HttpResponse:
    """The user is found by the view, as in REST frameworks."""
    request.user = named(request)
    with connection.cursor() as cursor, cursor.copy("COPY book (title) FROM STDIN") as copy:
        copy.write_row([f"{title}, copied"])
    Book.objects.create(title=title)
    return ok()


def look(request: HttpRequest, title: str) -> HttpResponse:
    return HttpResponse(Book.objects.filter(title=title).count())


def nested(request: HttpRequest, title: str) -> HttpResponse:
    with pyhist.context(user="somebody else", step=1):
        Book.objects.create(title=f"{title}, as somebody else")
    pyhist.context(step=2)
    Book.objects.create(title=title)
    return ok()


def broken(request: HttpRequest, title: str) -> HttpResponse:
    Book.objects.create(title=title)
    with transaction.atomic():
        Book.objects.create(title=f"{title}, rolled back")
        raise RuntimeError


def stream(request: HttpRequest, title: str) -> StreamingHttpResponse:
    def parts() -> Iterator[str]:
        try:
            for i in range(3):
                Book.objects.create(title=f"{title} {i}")
                yield str(i)
        finally:
            Book.objects.create(title=f"{title}, end")

    return StreamingHttpResponse(parts())


async def stream_async(request: HttpRequest, title: str) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        try:
            for i in range(3):
                await Book.objects.acreate(title=f"{title} {i}")
                yield str(i)
        finally:
            await Book.objects.acreate(title=f"{title}, end")

    return StreamingHttpResponse(parts())


async def add_async(request: HttpRequest, title: str) -> HttpResponse:
    await asyncio.gather(*(Book.objects.acreate(title=f"{title} {i}") for i in range(3)))
    return ok()


async def add_as_auser(request: HttpRequest, title: str) -> HttpResponse:
    user = await request.auser()
    await Book.objects.acreate(title=f"{title}, {user.username}")
    return ok()


async def log_in_async(request: HttpRequest, title: str) -> HttpResponse:
    from django.contrib.auth import alogin  # from Django 5.0 on

    user = await get_user_model().objects.aget(username=request.headers["user"])
    await alogin(request, user)
    await Book.objects.acreate(title=title)
    return ok()


urlpatterns = [path("admin/", admin.site.urls)]
urlpatterns += [
    path(f"{view.__name__}/<str:title>", view)
    for view in (
        add,
        add_as_auser,
        add_async,
        broken,
        late,
        log_in,
        log_in_async,
        log_out,
        look,
        nested,
        stream,
        stream_async,
    )
]
