"""TODO conduct"""
