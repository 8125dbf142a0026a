"""TODO posting"""
