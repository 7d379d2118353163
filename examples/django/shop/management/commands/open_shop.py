"""The first users and products: `python manage.py open_shop`."""

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand

import pyhist
from shop.models import Product


class Command(BaseCommand):
    help = "Makes two users, maya and tom, and the first products."

    def handle(self, **options):
        User.objects.create_superuser("maya", password="maya")
        User.objects.create_user("tom", password="tom")
        with pyhist.context(reason="opening"):
            for name, price in (("tea", 3), ("coffee", 5)):
                Product.objects.create(name=name, price=price)
