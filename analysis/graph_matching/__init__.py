"""Counterparts: can graph structure find a feature of one SAE in another, and do known ones help?"""
