"""Products in the admin; their History button shows what the database knows."""

from django.contrib import admin

from pyhist.django.admin import HistoryAdmin
from shop.models import Product

admin.site.register(Product, HistoryAdmin)
