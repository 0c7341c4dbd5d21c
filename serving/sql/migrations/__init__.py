"""Migrations of schema `serving`, in the order of their numbers."""
