"""TODO corpus"""
