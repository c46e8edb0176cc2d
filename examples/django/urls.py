"""The URLs of the API."""

from django.urls import path
from shop import views

urlpatterns = [
    path("products", views.products),
    path("products/<int:product_id>/adjust", views.adjust),
    path("products/<int:product_id>/count", views.count),
]
