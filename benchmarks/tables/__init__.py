"""Defective tables and series of which the right reading is known: is each refused in one line, said, or read rightly?"""
