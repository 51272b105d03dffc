"""Defective tables and series whose right reading is known: is each refused in one line, said, or read rightly?"""
