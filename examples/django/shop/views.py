"""A page of products and of what happened to them."""

from django import forms
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from pyhist.django.models import RecordedEvent
from shop.models import Product

DONE = {"I": "added", "U": "changed", "D": "removed"}


class PriceForm(forms.ModelForm):
    class Meta:
        model = Product
        fields = ("price",)


@login_required
def products(request):
    usernames = dict(User.objects.values_list("pk", "username"))
    events = RecordedEvent.objects.of(Product)[:50]
    for event in events:
        event.done = DONE[event.pgh_operation]
        why = event.pgh_context or {}
        event.who = usernames.get(why.get("user")) or why.get("reason")
    shown = {"products": Product.objects.order_by("pk"), "events": events}
    return render(request, "shop/products.html", shown)


@require_POST
@login_required
def price(request, key):
    form = PriceForm(request.POST, instance=get_object_or_404(Product, pk=key))
    if not form.is_valid():
        return HttpResponseBadRequest(form.errors.as_text())
    form.save()
    return redirect("products")
