"""One view, and the admin."""

from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

from shop.models import Product


@require_POST
@login_required
def price(request, key):
    Product.objects.filter(pk=key).update(price=request.POST["price"])
    return HttpResponse(status=204)


urlpatterns = [
    path("admin/", admin.site.urls),
    path("products/<int:key>/price", price),
]
