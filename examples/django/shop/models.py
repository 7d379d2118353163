"""Products, and what happened to them."""

from django.db import models

from pyhist.django import event_model


class Product(models.Model):
    name = models.TextField()
    price = models.DecimalField(max_digits=10, decimal_places=2)

    def __str__(self):
        return self.name


ProductEvent = event_model(Product)
