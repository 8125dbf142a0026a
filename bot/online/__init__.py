"""TODO online"""
