"""Assimilation schemes: backgrounds and observations in, analyses out."""
