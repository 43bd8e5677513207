"""Tests of single units against labels."""
