"""Servers that a trial has beside its broker: one file each."""
